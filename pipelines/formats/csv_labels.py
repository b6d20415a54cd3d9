"""CSV labels: one row for each image, with its classes in one cell. Torch-free."""

from collections import Counter
from collections.abc import Collection
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import RelativePath, normalized
from pipelines.base.records import SPLITS
from pipelines.formats.csv_recognition import recognize_csv
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.layer import LabelKind, LabelLayer
from pipelines.formats.layer_content import FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.tables import read_table


class CsvLayer(LabelLayer):
    """A table with one row for each image: one class, several (with `separator`), or none (empty cell: not labeled)."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"classes"})
    RECOGNIZED_BY: ClassVar[str] = "CSV files with a column of image names and a column of classes"

    format: Literal["csv"]
    path: RelativePath
    file_column: str = "file_name"
    column: str
    separator: str | None = Field(
        None, min_length=1, description="text between the classes of one cell; default: the whole cell is one class"
    )
    split_column: str | None = Field(
        None, description="column with the split of the row; default: `path` contains {split}"
    )

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_csv(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the table."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels in the rows of the split.

        An empty cell lists an image without labeling it. A blank as separator stands for any run of blanks. An image
        with two rows gets the classes of both.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file():
            return None
        columns = [self.file_column, self.column, *([self.split_column] if self.split_column else [])]
        rows = content.read_file(path, partial(read_table, columns=columns), partial(split.finding, file=content.file))
        if rows is None:
            return content
        other_splits: Counter[str] = Counter()
        num_rows = 0
        is_first_split = split.split == next(name for name in SPLITS if name in split.split_names)
        for line, row in rows:
            if self.split_column is not None:
                if isinstance(row, str):
                    if is_first_split:  # a row without a split is reported once
                        content.findings.append(_broken_row(row, line, split, content))
                    continue
                name = row[self.split_column].strip()
                if name != split.name_on_disk.strip():
                    if name not in {known.strip() for known in split.split_names.values()}:
                        other_splits[name] += 1
                    continue
            num_rows += 1
            self._read_row(row, line, split, content)
        if is_first_split:
            for name, count in other_splits.items():
                message = f"{count} rows have the split {name!r}; the source has {sorted(split.split_names.values())}"
                content.findings.append(split.finding("unknown_split", message, file=content.file))
        is_absent = self.split_column is not None and num_rows == 0 and not content.findings
        return None if is_absent else content

    def _read_row(self, row: dict[str, str] | str, line: int, split: SourceSplit, content: LayerContent) -> None:
        if isinstance(row, str) or not row[self.file_column].strip():
            problem = row if isinstance(row, str) else "has an empty file name; write the name of the image"
            content.findings.append(_broken_row(problem, line, split, content))
            return
        file_name, cell = row[self.file_column], row[self.column]
        file_name = normalized(file_name.strip())
        if self.separator is None:
            names = [cell.strip()] if cell.strip() else []
        else:
            names = [part.strip() for part in cell.split(self.separator) if part.strip()]
        content.num_read += len(names)
        image = content.images.get(file_name)
        if image is None:
            image = content.images[file_name] = FileImage(file_name)
        else:
            message = f"is listed again in line {line}; the classes of all its lines are merged"
            content.findings.append(split.finding("repeated_image", message, file=content.file, image=file_name))
        for name in names:
            content.category_ids.setdefault(name, set())
        if names:
            image.classes = (image.classes or []) + names


def _broken_row(problem: str, line: int, split: SourceSplit, content: LayerContent) -> Finding:
    message = f"line {line} {problem}"
    return split.finding("broken_entry", message, file=content.file, annotation_id=f"line {line}")
