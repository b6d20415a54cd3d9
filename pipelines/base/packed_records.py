"""Records of a split in arrays, so that data workers share one copy of the labels. Torch-free.

Every access to a Python object writes its reference count, so forked workers copy the memory pages of all labels that
they read: 860,000 boxes as objects take 600 MB in each worker. Arrays are shared.

Legend: N images, M labels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, overload

import numpy as np
from numpy.typing import NDArray

from pipelines.base.records import BoxLabel, ImageRecord, Split

Arrays = dict[str, NDArray[np.generic]]


class PackedTexts(Sequence[str]):
    """Texts in one array of bytes. Characters that UTF-8 does not have are kept."""

    def __init__(self, content: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.content = content
        self.ends = ends

    @classmethod
    def pack(cls, texts: Sequence[str]) -> "PackedTexts":
        """Return the texts in arrays."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        start = self.ends[index - 1] if index else 0
        return self.content[start : self.ends[index]].tobytes().decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class TaskLabels:
    """The labels of one task for the images of a split.

    Attributes:
        names: the categories (or classes), then the identities, each once.
        arrays: `is_labeled` (N,), `ends` (N,): the end of each image's labels; `category` (M,): positions in `names`.
            For boxes also `bbox_xywh` (M, 4) float64, `annotation_id`, `area` (NaN: None), `identity` (-1: None),
            `is_crowd` and `is_difficult`, each (M,).
    """

    names: list[str]
    arrays: Arrays

    @classmethod
    def pack(cls, labels: Sequence[list[BoxLabel] | list[str] | None]) -> "TaskLabels":
        """Return the labels of N images in arrays; None stands for an image that is not labeled."""
        flat = [label for of_image in labels for label in of_image or ()]
        positions: dict[str, int] = {}

        def position(name: str) -> int:
            return positions.setdefault(name, len(positions))

        arrays: Arrays = {
            "is_labeled": np.array([of_image is not None for of_image in labels], bool),
            "ends": np.cumsum([len(of_image or ()) for of_image in labels], dtype=np.int64),
        }
        boxes = [label for label in flat if isinstance(label, BoxLabel)]
        if boxes:
            areas = [np.nan if box.area is None else box.area for box in boxes]
            identities = [-1 if box.identity is None else position(box.identity) for box in boxes]
            arrays |= {
                "category": np.array([position(box.category) for box in boxes], np.int32),
                "bbox_xywh": np.array([box.bbox_xywh for box in boxes], np.float64).reshape(-1, 4),
                "annotation_id": np.array([box.annotation_id for box in boxes], np.int64),
                "area": np.array(areas, np.float64),
                "identity": np.array(identities, np.int32),
                "is_crowd": np.array([box.is_crowd for box in boxes], bool),
                "is_difficult": np.array([box.is_difficult for box in boxes], bool),
            }
        else:
            arrays["category"] = np.array([position(label) for label in flat if isinstance(label, str)], np.int32)
        return cls(list(positions), arrays)

    def of_image(self, index: int) -> list[BoxLabel] | list[str]:
        """Return the labels of a labeled image."""
        ends = self.arrays["ends"]
        start, end = int(ends[index - 1]) if index else 0, int(ends[index])
        columns = {name: array[start:end].tolist() for name, array in self.arrays.items() if name not in _BY_IMAGE}
        categories = [self.names[position] for position in columns["category"]]
        if "bbox_xywh" not in columns:
            return categories
        return [
            BoxLabel(
                annotation_id=annotation_id,
                category=category,
                bbox_xywh=(x, y, width, height),
                is_crowd=is_crowd,
                area=None if math.isnan(area) else area,
                identity=None if identity < 0 else self.names[identity],
                is_difficult=is_difficult,
            )
            for annotation_id, category, (x, y, width, height), is_crowd, area, identity, is_difficult in zip(
                columns["annotation_id"],
                categories,
                columns["bbox_xywh"],
                columns["is_crowd"],
                columns["area"],
                columns["identity"],
                columns["is_difficult"],
                strict=True,
            )
        ]


_BY_IMAGE = frozenset({"is_labeled", "ends"})


class ImageLabels(Mapping[str, list[BoxLabel] | list[str]]):
    """The labels of one image by task, unpacked when they are read."""

    def __init__(self, tasks: Mapping[str, TaskLabels], index: int) -> None:
        self._tasks = tasks
        self._index = index

    def __getitem__(self, task: str) -> list[BoxLabel] | list[str]:
        labels = self._tasks[task]
        if not labels.arrays["is_labeled"][self._index]:
            raise KeyError(task)
        return labels.of_image(self._index)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks and bool(self._tasks[cast("str", task)].arrays["is_labeled"][self._index])

    def __iter__(self) -> Iterator[str]:
        return (task for task in self._tasks if task in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class PackedRecords(Sequence[ImageRecord]):
    """The records of one split in arrays; each access creates a record that equals the packed one.

    Attributes:
        sources: names of the sources.
        arrays: `image_id`, `height`, `width`, `source` (a position in `sources`), each (N,).
        file_names, paths: N texts.
        tasks: the labels by task.
    """

    def __init__(
        self,
        split: Split,
        sources: list[str],
        arrays: Arrays,
        file_names: PackedTexts,
        paths: PackedTexts,
        tasks: dict[str, TaskLabels],
    ) -> None:
        self.split = split
        self.sources = sources
        self.arrays = arrays
        self.file_names = file_names
        self.paths = paths
        self.tasks = tasks

    @classmethod
    def pack(cls, split: Split, records: Sequence[ImageRecord]) -> "PackedRecords":
        """Return the records of a split in arrays."""
        sources = sorted({record.source for record in records})
        tasks = list(dict.fromkeys(task for record in records for task in record.labels))
        arrays: Arrays = {
            "image_id": np.array([record.image_id for record in records], np.int64),
            "height": np.array([record.height for record in records], np.int32),
            "width": np.array([record.width for record in records], np.int32),
            "source": np.array([sources.index(record.source) for record in records], np.int32),
        }
        return cls(
            split,
            sources,
            arrays,
            PackedTexts.pack([record.file_name for record in records]),
            PackedTexts.pack([str(record.path) for record in records]),
            {task: TaskLabels.pack([record.labels.get(task) for record in records]) for task in sorted(tasks)},
        )

    def names(self) -> dict[str, list[str]]:
        """Return the texts that `from_arrays` needs beside the arrays: the sources, and the names of each task."""
        return {"": self.sources, **{f"/{task}": labels.names for task, labels in self.tasks.items()}}

    def to_arrays(self, prefix: str) -> Arrays:
        """Return all arrays by name, for a file."""
        texts = {"file_names": self.file_names, "paths": self.paths}
        packed = {f"{name}/{part}": getattr(text, part) for name, text in texts.items() for part in ("content", "ends")}
        tasks = {
            f"tasks/{task}/{name}": array
            for task, labels in self.tasks.items()
            for name, array in labels.arrays.items()
        }
        return {f"{prefix}{name}": array for name, array in {**self.arrays, **packed, **tasks}.items()}

    @classmethod
    def from_arrays(
        cls, split: Split, names: Mapping[str, list[str]], stored: Mapping[str, NDArray[np.generic]], prefix: str
    ) -> "PackedRecords":
        """Return the records that `names` and `to_arrays` describe; raises KeyError if an array is missing."""

        def text(name: str) -> PackedTexts:
            content, ends = (stored[f"{prefix}{name}/{part}"] for part in ("content", "ends"))
            return PackedTexts(cast("NDArray[np.uint8]", content), cast("NDArray[np.int64]", ends))

        tasks = {}
        for task in (key[1:] for key in names if key):
            start = f"{prefix}tasks/{task}/"
            arrays = {key.removeprefix(start): array for key, array in stored.items() if key.startswith(start)}
            tasks[task] = TaskLabels(names[f"/{task}"], arrays)
        arrays = {name: stored[f"{prefix}{name}"] for name in ("image_id", "height", "width", "source")}
        return cls(split, names[""], arrays, text("file_names"), text("paths"), tasks)

    def __len__(self) -> int:
        return len(self.file_names)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageRecord]: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        return ImageRecord(
            image_id=int(self.arrays["image_id"][position]),
            source=self.sources[int(self.arrays["source"][position])],
            split=self.split,
            file_name=self.file_names[position],
            path=Path(self.paths[position]),
            height=int(self.arrays["height"][position]),
            width=int(self.arrays["width"][position]),
            labels=ImageLabels(self.tasks, position),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
