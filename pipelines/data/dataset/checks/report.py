"""The data report: all findings, and counts of images and labels that add up. Torch-free."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.base.causes import causes_of
from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.findings import KINDS, Finding
from pipelines.base.printable import printable
from pipelines.base.records import SPLITS, Split
from pipelines.data.dataset.clean import LayerCounts
from pipelines.run_folder.files import write_atomic
from pipelines.spec.result import DataResult, SkippedImage

SCHEMA_VERSION = 1

_SKIPPABLE = frozenset(get_args(SkippedImage.model_fields["kind"].annotation))


@dataclass
class ImageCounts:
    """Images of one split: `listed` is the sum of the others."""

    listed: int = 0
    in_index: int = 0
    unlabeled: int = 0
    unusable: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return all counts, for JSON."""
        return {
            "listed": self.listed,
            "in_index": self.in_index,
            "unlabeled": self.unlabeled,
            "unlabelled": self.unlabeled,
            "unusable": self.unusable,
            "skipped": self.skipped,
        }


@dataclass
class TaskCounts:
    """Labels of one task by split: images, and labels by class or identity.

    Crowd boxes and boxes without an identity are counted separately. `empty` images are labeled, but without an object
    or class. `ids` holds the categories that the network learns; identities that train does not have are missing.
    """

    kind: Literal["boxes", "classes", "identities"]
    ids: dict[str, int] = field(default_factory=dict)
    labeled: Counter[Split] = field(default_factory=Counter)
    unlabeled: Counter[Split] = field(default_factory=Counter)
    empty: Counter[Split] = field(default_factory=Counter)
    crowd: Counter[Split] = field(default_factory=Counter)
    without_identity: Counter[Split] = field(default_factory=Counter)
    by_class: dict[str, Counter[Split]] = field(default_factory=dict)

    def to_dict(self, splits: list[Split]) -> dict[str, Any]:
        """Return all counts, for JSON."""
        parts = {
            "labeled": self.labeled,
            "unlabeled": self.unlabeled,
            "empty": self.empty,
            "crowd": self.crowd,
            "without_identity": self.without_identity,
            # The names of earlier versions, for readers of this version of the schema.
            "labelled": self.labeled,
            "unlabelled": self.unlabeled,
        }
        return {
            "kind": self.kind,
            "images_and_boxes": {part: {split: count[split] for split in splits} for part, count in parts.items()},
            "classes": [
                {"id": self.ids.get(name), "name": name, **{split: count[split] for split in splits}}
                for name, count in self.rows()
            ],
        }

    def rows(self) -> list[tuple[str, Counter[Split]]]:
        """Return the classes in the order of their ids, then those without an id by name."""
        names = sorted(self.by_class, key=lambda name: (name not in self.ids, self.ids.get(name, 0), name))
        return [(name, self.by_class[name]) for name in names]


@dataclass
class DataReport:
    """The result of checking all splits. Errors stop a run, warnings do not."""

    root: str
    findings: list[Finding] = field(default_factory=list)
    images: dict[Split, ImageCounts] = field(default_factory=dict)
    tasks: dict[str, TaskCounts] = field(default_factory=dict)
    layers: list[LayerCounts] = field(default_factory=list)
    fingerprints: dict[Split, str] = field(default_factory=dict)
    """SHA-256 by split over the contents and sizes of its images and their cleaned labels; it does not depend on names,
    ids, label formats and the order of entries. Images that are skipped are not part of it."""
    skipped: list[SkippedImage] = field(default_factory=list)
    """The images that `data.on_error: skip` left out."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop a run."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that do not stop a run."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def splits(self) -> list[Split]:
        """The splits of the data, in the usual order."""
        return [split for split in SPLITS if split in self.images]

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Return the findings by kind, errors first."""
        grouped: dict[str, list[Finding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.kind, []).append(finding)
        return {kind: grouped[kind] for kind in KINDS if kind in grouped}

    @property
    def left_out(self) -> DataResult:
        """The number of skipped images, and their list, as in result.json."""
        return DataResult(num_skipped=len(self.skipped), skipped=self.skipped)

    @property
    def remedy(self) -> FieldProblem | None:
        """The setting that lets a run start in spite of unusable images; None if no error is about one."""
        kinds = Counter(finding.kind for finding in self.errors if _is_about_image(finding))
        if not kinds:
            return None
        found = ", ".join(f"{count} {KINDS[kind].title}" for kind, count in kinds.items())
        return FieldProblem("data.on_error", f"write skip to leave out such images instead of stopping ({found})")

    def problems(self, max_causes: int = 5) -> list[FieldProblem]:
        """Return one problem for each cause of errors, at most `max_causes` of each kind, and one for the others.

        The last one is the remedy, if there is one.
        """
        problems: list[FieldProblem] = []
        for kind, of_kind in self.by_kind().items():
            if findings := [finding for finding in of_kind if finding.severity == "error"]:
                causes = causes_of(findings)
                problems += [FieldProblem("", cause.describe()) for cause in causes[:max_causes]]
                if num_others := sum(len(cause.findings) for cause in causes[max_causes:]):
                    problems.append(FieldProblem("", f"{num_others} more {KINDS[kind].title}: see the report"))
        return [*problems, *([self.remedy] if self.remedy else [])]

    def raise_errors(self) -> None:
        """Raise the errors, if any.

        Raises:
            DataError: with `problems()`.
        """
        if self.errors:
            raise DataError(self.problems())

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report with all findings, for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "root": printable(self.root),
            "num_errors": len(self.errors),
            "num_warnings": len(self.warnings),
            "findings": {kind: len(findings) for kind, findings in self.by_kind().items()},
            "splits": {split: self.images[split].to_dict() for split in self.splits},
            "tasks": {name: self.tasks[name].to_dict(self.splits) for name in sorted(self.tasks)},
            "layers": [layer.to_dict() for layer in self.layers],
            "fingerprints": {split: self.fingerprints[split] for split in self.splits},
            **self.left_out.model_dump(),
            "errors": [finding.to_dict() for finding in self.errors],
            "warnings": [finding.to_dict() for finding in self.warnings],
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the report to `path` as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self.to_json())


def _is_about_image(finding: Finding) -> bool:
    """Return whether `data.on_error: skip` applies; a missing folder is a mistake in the document."""
    return finding.kind in _SKIPPABLE and (finding.kind != "missing_image" or finding.image is not None)
