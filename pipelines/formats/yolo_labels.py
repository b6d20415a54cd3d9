"""The label files of the images of a YOLO data set. Torch-free."""

import posixpath
from collections import defaultdict
from dataclasses import dataclass, field

from pipelines.base.paths import below
from pipelines.formats.layer_content import FileBox, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.yolo_rows import RowProblem, read_row
from pipelines.formats.yolo_yaml import YoloYaml

_MAX_FILES = 20
"""A problem of the rows is reported for this many files; the rest is counted in one finding."""
_MANY = 0.1
"""Images without a label file are reported from this share on."""


@dataclass
class YoloLabels:
    """Reads the label files of one split, and reports their problems once for each file."""

    split: SourceSplit
    document: YoloYaml
    content: LayerContent
    _safe_folders: set[str] = field(default_factory=set)
    _without_file: list[tuple[str, str]] = field(default_factory=list)
    _problems: dict[RowProblem, list[tuple[str, str, list[int]]]] = field(default_factory=lambda: defaultdict(list))

    def read(self, image: str, label_file: str, file_name: str) -> list[FileBox]:
        """Return the objects of an image; without a label file there are none."""
        try:
            text = self._read_text(label_file)
        except FileNotFoundError:
            self._without_file.append((image, label_file))
            return []
        except UnicodeDecodeError as error:
            self._report("broken_label_file", f"is not a text file ({error})", label_file, file_name)
            return []
        except ValueError as error:
            self._report("unsafe_path", str(error), label_file, file_name)
            return []
        except OSError as error:
            self._report("broken_label_file", f"cannot be read ({error.strerror})", label_file, file_name)
            return []
        boxes: list[FileBox] = []
        problems: dict[RowProblem, list[int]] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            self.content.num_read += 1
            row = read_row(line, number, self.document.names, has_keypoints=self.document.has_keypoints)
            if isinstance(row, RowProblem):
                problems.setdefault(row, []).append(number)
            else:
                boxes.append(row)
        for problem, lines in problems.items():
            self._problems[problem].append((label_file, file_name, lines))
        return boxes

    def report(self) -> None:
        """Add the findings about rows and about images without label files to the content."""
        for problem, files in self._problems.items():
            for label_file, file_name, lines in files[:_MAX_FILES]:
                more = f" ({len(lines)} lines of this file)" if len(lines) > 1 else ""
                finding = self.split.finding(
                    problem.kind,
                    f"{problem.message}{more}",
                    file=label_file,
                    image=file_name,
                    annotation_id=f"line {lines[0]}",
                )
                self.content.refuse_many(finding, len(lines))
            if rest := files[_MAX_FILES:]:
                num_lines = sum(len(lines) for _, _, lines in rest)
                message = f"{problem.message} ({num_lines} lines of {len(rest)} more files)"
                self.content.refuse_many(self.split.finding(problem.kind, message, file=rest[0][0]), num_lines)
        self._report_images_without_file()

    def _report_images_without_file(self) -> None:
        num_images, num_without = len(self.content.images), len(self._without_file)
        if not num_without or num_without < _MANY * num_images:
            return
        image, label_file = self._without_file[0]
        shown = f"the one of {image!r} would be {label_file!r}"
        if num_without == num_images:
            message = f"none of the {num_images} images of {self.split.name_on_disk!r} has a label file; {shown}"
            self._report("missing_label_file", message, self.content.file)
        else:
            message = f"{num_without} of {num_images} images have no label file, so they have no objects; {shown}"
            self._report("no_label_file", message, self.content.file)

    def _report(self, kind: str, message: str, file: str, image: str | None = None) -> None:
        self.content.findings.append(self.split.finding(kind, message, file=file, image=image))

    def _read_text(self, label_file: str) -> str:
        """Return the text of a label file below the data root."""
        folder = posixpath.dirname(label_file) or "."
        if folder not in self._safe_folders:
            below(self.split.root, folder)
            self._safe_folders.add(folder)
        path = self.split.root / label_file
        if path.is_symlink():
            path = below(self.split.root, label_file)
        return path.read_bytes().decode("utf-8-sig")
