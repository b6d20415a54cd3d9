"""Recognize tables of images and their classes. Torch-free."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from pipelines.base.records import SPLITS, Split
from pipelines.formats.folder_contents import (
    FolderContents,
    FolderReading,
    common_images,
    sample,
    split_families,
    split_of,
)
from pipelines.formats.split_file import COLUMNS

MAX_FILES = 20
LABEL_NAMES = ("label", "labels", "class", "classes", "category", "categories", "target", "tags", "tag", "class_name")
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage", "dataset")
SEPARATORS = ("|", ";", ",", " ")
CORNERS = ({"xmin", "ymin"}, {"x_min", "y_min"}, {"x1", "y1"}, {"x", "y", "width", "height"}, {"bbox"})
_NUMBER = re.compile(r"-?\d*\.?\d+(e-?\d+)?", re.IGNORECASE)

_Rows = list[dict[str, str]]


def recognize_csv(folder: FolderContents) -> list[FolderReading]:
    """Return a reading for each table whose rows name images of the folder and their classes."""
    tables: dict[str, _Rows] = {}
    for file in folder.with_suffix(".csv")[:MAX_FILES]:
        rows = _read(folder, file)
        if rows and tuple(rows[0]) != COLUMNS:
            tables[file] = rows
    readings: list[FolderReading] = []
    for family in split_families(tables):
        reading = _recognize(
            folder, family.pattern, {split: tables[family.path(split)] for split in family.names}, dict(family.names)
        )
        if reading is not None:
            readings.append(reading)
    return sorted(readings, key=lambda reading: -reading.num_images)


def _read(folder: FolderContents, file: str) -> _Rows:
    try:
        text = (folder.root / file).read_text("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [row for row in reader if None not in row and None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _recognize(
    folder: FolderContents, pattern: str, tables: dict[Split, _Rows], names: dict[Split, str]
) -> FolderReading | None:
    rows = tables["train"]
    columns = list(rows[0])
    places = {
        column: folder.images_folder(row[column].strip() for row in sample(rows) if row[column].strip())
        for column in columns
    }
    file_column = next((column for column in columns if places[column] is not None), None)
    if file_column is None:
        return None
    if any(corners <= {column.strip().lower() for column in columns} for corners in CORNERS):
        folder.notes.append(f"{pattern} has boxes, which the format csv does not read; convert it to COCO")
        return None
    rest = [column for column in columns if column != file_column]
    split_column = next((column for column in rest if _is_split(column, rows)), None) if len(tables) == 1 else None
    label = _label_column([column for column in rest if column != split_column], rows)
    folders = {
        split: place
        for split, table in tables.items()
        if (place := folder.images_folder((row[file_column].strip() for row in table), names[split])) is not None
    }
    images = common_images(folders, names)
    if label is None and images is not None:
        message = (
            "has no column of classes; write all classes of an image into one column, not one column for each class"
        )
        folder.notes.append(f"{pattern} names images in the column {file_column!r}, but {message}")
    if label is None or images is None:
        return None
    fields = {"path": pattern, "file_column": file_column, "column": label}
    splits = {split: names[split] for split in folders}
    if split_column is not None:
        found = {row[split_column].strip() for row in rows}
        by_split = {split_of(name): name for name in sorted(found, reverse=True)}
        splits = {split: by_split[split] for split in SPLITS if split in by_split}
        fields["split_column"] = split_column
    cells = [row[label].strip() for table in tables.values() for row in table]
    if (separator := _separator(cells)) is not None:
        fields["separator"] = separator
    num_images = sum(len(table) for table in tables.values())
    reason = f"{pattern}: {num_images} rows; images in the column {file_column!r}, classes in {label!r}"
    if separator is not None:
        reason += f" (several, separated by {separator!r})"
    if split_column is not None:
        reason += f", splits in {split_column!r}"
    return FolderReading("csv", fields, images, splits, False, num_images, f"{reason}; the images are in {images}")


def _is_split(column: str, rows: _Rows) -> bool:
    values = {row[column].strip() for row in rows}
    return "train" in {split_of(value) for value in values} and (
        column.lower() in SPLIT_COLUMNS or all(split_of(value) for value in values)
    )


def _label_column(columns: Sequence[str], rows: _Rows) -> str | None:
    """Return the column with a usual name, or else the one with the fewest values, if rows share values."""
    by_name = {column.strip().lower(): column for column in columns}
    for name in LABEL_NAMES:
        if name in by_name:
            return by_name[name]
    values = {column: Counter(row[column].strip() for row in rows if row[column].strip()) for column in columns}
    fitting = [
        column
        for column in columns
        if 1 < len(values[column]) <= max(2, len(rows) // 2) and not all(map(_NUMBER.fullmatch, values[column]))
    ]
    return min(fitting, key=lambda column: (len(values[column]), columns.index(column))) if fitting else None


def _separator(cells: Sequence[str]) -> str | None:
    """Return the text that separates the classes of cells, or None if each cell is one class.

    A blank or a comma separates only if the parts are classes of other cells or repeat, because names may contain it.
    """
    for separator in SEPARATORS:
        several = [cell for cell in cells if separator in cell]
        if not several:
            continue
        if separator in "|;":
            return separator
        parts = Counter(part.strip() for cell in cells for part in cell.split(separator) if part.strip())
        whole = Counter(cells)
        if all(parts[part.strip()] > whole[cell] for cell in several for part in cell.split(separator) if part.strip()):
            return separator
    return None
