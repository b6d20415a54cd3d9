"""The YAML file of a YOLO data set: class names, and the images of each split. Torch-free.

Paths have the meaning that Ultralytics gives them: `path` is the folder of the data set, and `train`, `val` and `test`
are relative to it. `path` itself is relative to the YAML file here, because a data set must not depend on a folder
outside of the data root. Files that were moved, such as exports, often name a folder of another machine; see
`YoloYaml.locate`.
"""

import os
import posixpath
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipelines.base.links import walk
from pipelines.base.paths import IMAGE_SUFFIXES, below
from pipelines.base.yaml_keys import RepeatedKey, UniqueKeys

_VAL_NAMES = ("val", "valid", "validation")
_OTHER_KEYS = frozenset({"path", "names", "nc", "download"})
_INTEGER = re.compile(r"[0-9]{1,18}")
_SHOWN = reprlib.Repr()
"""Shortens values in messages: aliases let a short file contain endless ones."""
_SHOWN.maxlevel = 2
_MAX_UNNAMED = 10_000
"""A file without names has at most this many classes."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
UNSUPPORTED_IMAGES = frozenset({".avif", ".dng", ".heic", ".heif", ".jp2", ".mpo", ".pfm"})
"""Extensions, in lower case, of images that YOLO reads and this project does not."""


class _TextLoader(UniqueKeys, yaml.BaseLoader):
    """YAML in which all scalars are text, and a repeated key is an error."""


class BrokenYaml(ValueError):
    """The YAML file cannot be used; the message says why."""


@dataclass(frozen=True)
class ImagePlace:
    """Folder or text file with the images of a split, relative to the data root; `is_moved`: `path` was not used."""

    path: str
    is_moved: bool


@dataclass(frozen=True)
class YoloYaml:
    """Content of the file.

    Attributes:
        root: the data root.
        file: the file, relative to the data root.
        names: class names by id.
        path: the folder of the data set as the file gives it, or "".
        has_keypoints: the rows of label files continue with keypoints after the box.
        splits: folders and text files with images, by the key of the split.
    """

    root: Path
    file: str
    names: dict[int, str]
    path: str
    has_keypoints: bool
    splits: dict[str, list[str]]

    def entries(self, split: str) -> list[str]:
        """Return the entries of a split; `val`, `valid` and `validation` are one name."""
        keys = _VAL_NAMES if split in _VAL_NAMES else (split,)
        found = (self.splits[key] for key in (split, *keys) if self.splits.get(key))
        return next(found, [])

    def locate(self, entry: str) -> ImagePlace:
        """Return where the images of an entry are.

        The entry is looked up below `path`. If that does not exist, it is looked up in the folder beside the YAML file
        that has the last part of `path` as its name, and beside the YAML file. In each of these places, `../` at the
        start is omitted if the entry does not exist with it, as Ultralytics does for exports of Roboflow.

        Raises:
            BrokenYaml: the entry is absolute or leads out of the data root.
            FileNotFoundError: the entry does not exist; the message names the first place.
        """
        entry = entry.replace("\\", "/")
        if is_absolute(entry):
            raise BrokenYaml(f"names {entry!r}; write a path relative to the YAML file, or copy the folder beside it")
        places = [
            (place, is_moved) for base, is_moved in self._bases() for place in _without_parents(base, entry) if place
        ]
        for place, is_moved in places:
            if _exists(self.root, place):
                return ImagePlace(place, is_moved)
        if not places:
            raise BrokenYaml(
                f"names {entry!r}, which leads out of the data root; write a path relative to the YAML file"
            )
        raise FileNotFoundError(places[0][0])

    def bases(self) -> list[str]:
        """Return the folders, relative to the data root, that the file's paths may be relative to."""
        return [base for base, _ in self._bases()]

    def _bases(self) -> list[tuple[str, bool]]:
        own = posixpath.dirname(self.file) or "."
        given = self.path.replace("\\", "/")
        declared = None if is_absolute(given) else joined(own, given)
        if declared == own:
            return [(own, False)]
        last = PurePosixPath(given).name
        is_own_name = last == (self.root / own).resolve().name and not is_absolute(given)
        beside = [(declared, False)] if declared is not None and _exists(self.root, declared) else []
        inner = joined(own, last)
        if inner is not None and inner != declared and _exists(self.root, inner):
            beside.append((inner, True))
        return [*beside, (own, not is_own_name)]


def read_yolo_yaml(root: Path, path: Path, file: str) -> YoloYaml:
    """Return the content of the YAML file at `path`.

    All scalars are read as text, so that class names such as `no` and `1e3` stay as they are written.

    Raises:
        BrokenYaml: the file is unreadable, or its names are missing or invalid.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_TextLoader)
    except RepeatedKey as error:
        raise BrokenYaml(f"is not valid: {error.problem} in line {error.line}; keep one of its values") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise BrokenYaml(f"is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(document, dict):
        raise BrokenYaml("is not a mapping; write 'train', 'val' and 'names'")
    place = document.get("path", "")
    splits = {key: _entries(value) for key, value in document.items() if _is_split(key, value)}
    if not isinstance(place, str):
        raise BrokenYaml(f"has the 'path' {_SHOWN.repr(place)}; write one folder")
    return YoloYaml(
        root=root,
        file=file,
        names=_read_names(document),
        path="" if place in _NULLS else place,
        has_keypoints="kpt_shape" in document,
        splits=splits,
    )


def images_below(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder that are images, in sorted order, except hidden ones."""
    for parent, folders, files in walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(parent).relative_to(folder)
        for name in sorted(files):
            suffix = posixpath.splitext(name)[1].lower()
            if not name.startswith(".") and (suffix in IMAGE_SUFFIXES or suffix in UNSUPPORTED_IMAGES):
                yield (inside / name).as_posix()


def label_file_of(image: str) -> str:
    """Return the label file of an image: the last folder `images` of its path is replaced by `labels`."""
    folders, name = image.split("/")[:-1], image.rsplit("/", 1)[-1]
    for position in reversed(range(len(folders))):
        if folders[position] == "images":
            folders[position] = "labels"
            break
    return "/".join([*folders, posixpath.splitext(name)[0] + ".txt"])


def joined(base: str, entry: str) -> str | None:
    """Return the path of `entry` below `base`, both relative to the data root, or None if it leads out of the root."""
    path = posixpath.normpath(posixpath.join(base, entry))
    return None if path == ".." or path.startswith(("../", "/")) else path


def is_absolute(path: str) -> bool:
    """Return whether a path with forward slashes is absolute, on this system or on Windows."""
    return path.startswith("/") or path[1:3] == ":/"


def _without_parents(base: str, entry: str) -> Iterator[str | None]:
    yield joined(base, entry)
    while entry.startswith("../"):
        entry = entry[3:]
        yield joined(base, entry)


def _exists(root: Path, place: str) -> bool:
    """Return whether a place exists below the root; a link that leads out exists, and is refused where it is read."""
    try:
        return below(root, place).exists()
    except ValueError:
        return os.path.islink(root / place)  # noqa: PTH114 (False where the system refuses the path)


def _is_split(key: Any, value: Any) -> bool:
    is_path = isinstance(value, str) or (isinstance(value, list) and all(isinstance(entry, str) for entry in value))
    return is_path and key not in _OTHER_KEYS


def _entries(value: str | list[str]) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if entry not in _NULLS]


def _read_names(document: dict[str, Any]) -> dict[int, str]:
    given, count = document.get("names"), document.get("nc")
    num_classes = _integer(count)
    if num_classes is None and count is not None and not (isinstance(count, str) and count in _NULLS):
        raise BrokenYaml(f"has the 'nc' {_SHOWN.repr(count)}; write the number of classes, or omit it")
    if not given or (isinstance(given, str) and given in _NULLS):
        if not num_classes or num_classes > _MAX_UNNAMED:
            raise BrokenYaml("has no 'names'; write the class names as a list, or by id")
        return {number: f"class_{number}" for number in range(num_classes)}
    rows = (
        list(given.items()) if isinstance(given, dict) else list(enumerate(given)) if isinstance(given, list) else None
    )
    if rows is None:
        raise BrokenYaml(f"has the 'names' {_SHOWN.repr(given)}; write the class names as a list, or by id")
    names: dict[int, str] = {}
    for key, name in rows:
        number = key if isinstance(key, int) else _integer(key)
        if number is None or not isinstance(name, str) or not name.strip():
            shown = f"the class {key!r} with the name {_SHOWN.repr(name)}"
            raise BrokenYaml(f"has {shown} in 'names'; write an integer and a name")
        if names.setdefault(number, name.strip()) != name.strip():
            raise BrokenYaml(f"has two names of the class {number}, {names[number]!r} and {name!r}; remove one of them")
    if num_classes is not None and num_classes not in (len(names), max(names) + 1):
        raise BrokenYaml(f"has 'nc' {num_classes}, but 'names' has {len(names)} names; correct one of them")
    return names


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else None
