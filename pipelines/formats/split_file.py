"""The split file of a source: a table that assigns its images to splits, whatever the label format. Torch-free.

Its columns are `file_name`, the path of an image below the data root, and `split`; it may have others.
"""

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.base.findings import Finding
from pipelines.base.paths import below, normalized
from pipelines.base.records import SPLITS, Split
from pipelines.base.suggested_commands import suggested
from pipelines.formats.tables import read_table

FILE_COLUMN, SPLIT_COLUMN = COLUMNS = ("file_name", "split")


@dataclass
class SplitFile:
    """The content of a split file.

    Attributes:
        name: the file, relative to the data root.
        splits: by the path of an image, relative to the data root.
        findings: everything that is wrong with the file; with an error among them, `splits` may be incomplete.
    """

    name: str
    splits: dict[str, Split] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_split_file(root: Path, name: str) -> SplitFile:
    """Return the content of the split file `name` below the data root, with findings for all problems."""
    content = SplitFile(name)
    try:
        path = below(root, name)
    except (ValueError, OSError) as error:
        content.findings.append(Finding("unsafe_path", str(error), file=name))
        return content
    try:
        rows = read_table(_read(path), COLUMNS)
    except FileNotFoundError:
        message = f"the split file is missing; write it with `{suggested('data split')}`"
        content.findings.append(Finding("missing_label_file", message, file=name))
        return content
    except IsADirectoryError:
        message = "is a folder; name a CSV file as split_file, or rename the folder"
        content.findings.append(Finding("broken_label_file", message, file=name))
        return content
    except OSError as error:
        message = f"cannot be read ({error.strerror}); correct its permissions"
        content.findings.append(Finding("broken_label_file", message, file=name))
        return content
    except ValueError as error:
        content.findings.append(Finding("broken_label_file", str(error), file=name))
        return content
    for line, row in rows:
        if problem := row if isinstance(row, str) else _add(row, content):
            content.findings.append(Finding("broken_entry", problem, file=name, annotation_id=f"line {line}"))
    return content


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise ValueError(f"is empty; write it again with `{suggested('data split', '--force')}`")
    return data


def _add(row: dict[str, str], content: SplitFile) -> str | None:
    """Add one row, or return what is wrong with it."""
    image, split = row[FILE_COLUMN].strip(), row[SPLIT_COLUMN].strip()
    if not image:
        return "the file name is empty"
    if split not in SPLITS:
        return f"{image!r} has the split {split!r}; write train, val or test"
    image = normalized(image)
    if content.splits.setdefault(image, split) != split:
        return f"{image!r} is in {content.splits[image]} and in {split}; keep one of the rows"
    return None


def split_file_text(splits: Mapping[str, Split]) -> str:
    """Return the text of a split file, with its rows in the order of their file names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(splits.items()))
    return text.getvalue()
