"""CSV labels: a row an image, its classes in one cell. Torch-free."""

import csv
import io
from collections import Counter

from pipelines.data.dataset.formats.layer_content import FileImage, LayerContent, Place, tidy_name
from pipelines.records import SPLITS
from pipelines.spec.data import CsvLayer


def read_csv(layer: CsvLayer, place: Place) -> LayerContent | None:
    """Return the rows of the split; None where there is no such file, or no row of the split.

    An empty cell lists an image without labeling it. A blank as separator stands for any run of blanks. An image
    in two rows gets the classes of both.
    """
    path = place.label_file(layer.path)
    content = LayerContent(file=place.fill(layer.path))
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        content.findings.append(place.finding("broken_label_file", f"is no CSV ({error})", file=content.file))
        return content
    columns = [layer.file_column, layer.column, *([layer.split_column] if layer.split_column else [])]
    if missing := [column for column in columns if column not in (reader.fieldnames or [])]:
        message = f"has no column {' and no '.join(map(repr, missing))}; its header is {list(reader.fieldnames or [])}"
        content.findings.append(place.finding("broken_label_file", message, file=content.file))
        return content
    other_splits: Counter[str] = Counter()
    num_rows = 0
    for line, row in enumerate(rows, start=2):
        if layer.split_column is not None:
            split_on_disk = row[layer.split_column] or ""
            if split_on_disk != place.split_on_disk:
                if split_on_disk not in place.source.splits.values():
                    other_splits[split_on_disk] += 1
                continue
        num_rows += 1
        _read_row(row, line, layer, place, content)
    if place.split == next(split for split in SPLITS if split in place.source.splits):
        for name, count in other_splits.items():
            message = f"{count} rows have the split {name!r}; the source has {sorted(place.source.splits.values())}"
            content.findings.append(place.finding("unknown_split", message, file=content.file))
    is_absent = layer.split_column is not None and num_rows == 0 and not content.findings
    return None if is_absent else content


def _read_row(row: dict[str, str], line: int, layer: CsvLayer, place: Place, content: LayerContent) -> None:
    file_name, cell = row[layer.file_column], row[layer.column]
    if None in row.values() or None in row or not file_name.strip():
        message = f"line {line} does not have one cell for each column, or names no file"
        content.findings.append(place.finding("broken_entry", message, file=content.file, annotation_id=f"line {line}"))
        return
    file_name = tidy_name(file_name.strip())
    if layer.separator is None:
        names = [cell.strip()] if cell.strip() else []
    else:
        names = [part.strip() for part in cell.split(layer.separator) if part.strip()]
    content.num_read += len(names)
    image = content.images.get(file_name)
    if image is None:
        image = content.images[file_name] = FileImage(file_name)
    else:
        message = f"is listed again in line {line}; its classes are put together"
        content.findings.append(place.finding("repeated_image", message, file=content.file, image=file_name))
    for name in names:
        content.category_ids.setdefault(name, set())
    if names:
        image.classes = (image.classes or []) + names
