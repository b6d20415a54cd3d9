"""Findings that have one cause, as one line with a count. Torch-free."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.base.findings import Finding
from pipelines.base.printable import shortened

_QUOTED_OR_VALUE = re.compile(r"""('[^']*')|\[[^\]]*\]|\([^)]*\)|"[^"]*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?""")


@dataclass(frozen=True)
class Cause:
    """All findings of one kind, source and split that have the same cause, in the order in which they were found."""

    findings: Sequence[Finding]

    def describe(self, examples: int = 3) -> str:
        """Return the first finding; if there are others, with their number and at most `examples` of their places."""
        first, *others = self.findings
        if not others:
            return str(first)
        places = list(dict.fromkeys(place for finding in others if (place := _place(finding, first))))
        shown = ", ".join(places[:examples]) + (", ..." if len(places) > examples else "")
        where = f", also at {shown}" if shown else ""
        return f"{first} ({len(self.findings)} times{where})"


def causes_of(findings: Sequence[Finding]) -> list[Cause]:
    """Return the findings grouped by kind, source, split and cause: the causes with most findings first.

    The cause of a finding is its field `cause`. If it is empty, findings with a place (a file, an image or an
    annotation) have the same cause if their messages differ only in numbers, lists and values in double quotes or
    parentheses; names in single quotes count as different.
    """
    grouped: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        key = (finding.kind, finding.source, finding.split, finding.cause or _pattern(finding))
        grouped.setdefault(key, []).append(finding)
    return sorted(map(Cause, grouped.values()), key=lambda cause: -len(cause.findings))


def _pattern(finding: Finding) -> str:
    if not _place(finding, None):
        return finding.message
    return _QUOTED_OR_VALUE.sub(lambda match: match.group(1) or "…", finding.message)


def _place(finding: Finding, first: Finding | None) -> str:
    """Return where a finding is, without the file and the image that it shares with the first one."""
    is_other_image = first is None or finding.image != first.image or finding.annotation_id is None
    parts = [
        finding.file if finding.image is None and (first is None or finding.file != first.file) else None,
        finding.image if is_other_image else None,
        None if finding.annotation_id is None else f"annotation {finding.annotation_id}",
    ]
    return " ".join(shortened(part) for part in parts if part)
