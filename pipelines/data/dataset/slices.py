"""Slices: the values that a table gives the images of a split. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.paths import normalized
from pipelines.base.records import ImageRecord
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.tables import read_table
from pipelines.spec.data import SourceSpec
from pipelines.spec.evaluation import Unlisted

Slices = dict[str, dict[int, str]]
"""By column, the value of each image of a split by its id."""

FILE_COLUMN = "file_name"
NO_VALUE = "(no value)"
"""The slice of images without a row or with an empty cell."""

MAX_VALUES = 100
"""Different values of a column: a column with more does not group images."""


def read_slices(
    path: Path,
    columns: Sequence[str],
    unlisted: Unlisted,
    records: Sequence[ImageRecord],
    sources: Mapping[str, SourceSpec],
) -> Slices:
    """Return the value of each image in each column.

    Args:
        path: a table with the column `file_name` and the columns of the slices.
        columns: columns of the table.
        unlisted: see `SlicesSpec`.
        records: the split that is scored.
        sources: of the document, by name.

    Raises:
        DataError: the table cannot be read, lacks a column, has an invalid row or two different rows of an image, or a
            column has too many values; or an image has no value and `unlisted` is `stop`.
    """
    rows = _rows(path, columns)
    slices: Slices = {column: {} for column in columns}
    missing: list[str] = []
    for record in records:
        names = list(_names(record, sources[record.source]))
        row = next((rows[name] for name in names if name in rows), {})
        values = {column: row.get(column, "").strip() for column in columns}
        if not all(values.values()):
            missing.append(names[0])
        for column, value in values.items():
            slices[column][record.image_id] = value or NO_VALUE
    if missing and unlisted == "stop":
        noun = "image has" if len(missing) == 1 else "images have"
        raise _problem(
            path,
            f"{len(missing)} {noun} no row or an empty cell, such as {missing[0]!r}; add them, or choose "
            "evaluation.slices.unlisted: slice (--unlisted slice), which scores them as a slice of their own",
        )
    for column, of_images in slices.items():
        if (count := len(set(of_images.values()))) > MAX_VALUES:
            raise _problem(path, f"column {column!r} has {count} values; name a column with at most {MAX_VALUES}")
    return slices


def _rows(path: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the rows of the table by the names of their images."""
    try:
        table = read_table(path.read_bytes(), [FILE_COLUMN, *columns])
    except OSError as error:
        raise _problem(path, f"cannot be read ({error.strerror}); name a CSV file") from None
    except ValueError as error:
        raise _problem(path, str(error)) from None
    rows: dict[str, dict[str, str]] = {}
    for line, row in table:
        if isinstance(row, str):
            raise _problem(path, f"line {line} {row}")
        name = normalized(row[FILE_COLUMN].strip())
        if rows.setdefault(name, row) != row:
            raise _problem(path, f"line {line} describes {name!r} again with other values; keep one of its rows")
    return rows


def _names(record: ImageRecord, source: SourceSpec) -> Iterator[str]:
    """Yield the names that the table may use for an image, the preferred one first."""
    # A split file assigns images of any folder to a split.
    is_own = source.split_file is None and record.split in source.splits
    for stored in [record.split] if is_own else source.splits:
        split = SourceSplit(Path(), record.source, source.images, source.splits, record.split, stored)
        yield split.shown_path(record.file_name)
    yield normalized(record.file_name)


def _problem(path: Path, message: str) -> DataError:
    return DataError(FieldProblem("evaluation.slices", f"{path}: {message}"))
