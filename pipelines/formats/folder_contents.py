"""The files of a folder that may be a data set, for the recognition of its format. Torch-free."""

import contextlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.base.links import link_policy, walk
from pipelines.base.paths import IMAGE_SUFFIXES, is_ignored
from pipelines.base.records import SPLITS, Split
from pipelines.formats.image_names import AmbiguousImage, ImageNames

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
MAX_SAMPLE = 200
"""Images of a label file that are looked up."""

_SPLIT_WORD = re.compile(
    rf"(?<![a-z])(?:{'|'.join(name for names in SPLIT_NAMES.values() for name in names)})\d*(?![a-z\d])", re.IGNORECASE
)


@dataclass(frozen=True)
class SplitPaths:
    """Files or folders that differ in the name of a split: a pattern with `{split}`, and the names on disk."""

    pattern: str
    names: Mapping[Split, str]

    def path(self, split: Split) -> str:
        """Return the path of a split."""
        return self.pattern.replace("{split}", self.names[split])


class FolderContents:
    """The files below a folder, without hidden ones.

    Attributes:
        root: the folder.
        files: paths relative to the root, sorted.
        links: links to folders, which were not followed.
        notes: label files that were recognized but cannot be used, with the reason.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[str] = []
        self.links: list[str] = []
        self.notes: list[str] = []
        for parent, folders, files in walk(root, lists_all=False):
            inside = Path(parent).relative_to(root)
            if link_policy() != "follow":
                self.links += [(inside / name).as_posix() for name in folders if (Path(parent) / name).is_symlink()]
            folders[:] = sorted(name for name in folders if not is_ignored(PurePosixPath(name)))
            self.files += [(inside / name).as_posix() for name in files if not is_ignored(PurePosixPath(name))]
        self.files.sort()
        # Such names cannot be written into a document; `data check` reports them.
        if foreign := [file for file in self.files if not _is_text(file)]:
            self.notes.append(f"{len(foreign)} file names are not UTF-8, such as {foreign[0]!a}; rename these files")
            self.files = [file for file in self.files if _is_text(file)]

    @cached_property
    def images(self) -> list[str]:
        """The image files."""
        return self.with_suffix(*IMAGE_SUFFIXES)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Return the files with one of these extensions (in lower case), those in few folders first."""
        files = [file for file in self.files if posixpath.splitext(file)[1].lower() in suffixes]
        return sorted(files, key=lambda file: (file.count("/"), file))

    def read_json(self, file: str) -> Any:
        """Return the content of a JSON file, which is kept in memory; None if it is not valid."""
        if file not in self._documents:
            try:
                self._documents[file] = json.loads((self.root / file).read_bytes())
            except (OSError, ValueError, RecursionError):
                self._documents[file] = None
        return self._documents[file]

    @cached_property
    def _documents(self) -> dict[str, Any]:
        return {}

    def read_start(self, file: str, size: int = 65536) -> str:
        """Return the first characters of a text file; an empty text if it cannot be read."""
        try:
            with (self.root / file).open("rb") as opened:
                return opened.read(size).decode("utf-8-sig", errors="replace")
        except OSError:
            return ""

    def images_folder(self, file_names: Iterable[str], split_name: str = "") -> str | None:
        """Return the folder that most of these names of images are relative to; None if no image is found.

        Of several folders with these names, the one in a folder with the name of the split is preferred.
        """
        votes: Counter[str] = Counter()
        for name in sample(sorted(set(file_names))):
            wanted = posixpath.normpath(name)
            for path in self._by_name.get(posixpath.basename(wanted), ()):
                if path == wanted:
                    votes["."] += 1
                elif path.endswith(f"/{wanted}"):
                    votes[path[: -len(wanted) - 1]] += 1

        def rank(folder: str) -> tuple[int, bool, str]:
            return -votes[folder], split_name not in folder.split("/"), folder

        return min(votes, key=rank) if votes else None

    def folder_of_named(self, names: Iterable[str], subset: str) -> str | None:
        """Return the innermost folder with all images that a tool names in its own way (see `ImageNames`)."""
        found: list[str] = []
        for name in names:
            with contextlib.suppress(AmbiguousImage):
                path = self._image_names.with_suffix(name, subset) or self._image_names.find(name, subset)
                if path in self._image_names.names:
                    found.append(posixpath.dirname(path))
        return (posixpath.commonpath(found) or ".") if found else None

    @cached_property
    def _image_names(self) -> ImageNames:
        names = ImageNames()
        for image in self.images:
            names.add(image)
        return names

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in self.images:
            names.setdefault(posixpath.basename(path), []).append(path)
        return names

    @cached_property
    def stems(self) -> dict[str, list[str]]:
        """The images by name without folder and extension."""
        names: dict[str, list[str]] = {}
        for path in self.images:
            names.setdefault(posixpath.splitext(posixpath.basename(path))[0], []).append(path)
        return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def sample(items: Sequence[Any], size: int = MAX_SAMPLE) -> Sequence[Any]:
    """Return at most `size` items, evenly picked."""
    return items[:: max(1, -(-len(items) // size))]


def split_of(word: str) -> Split | None:
    """Return the split that a folder or a file with this name holds; digits at its end are ignored."""
    plain = word.lower().rstrip("0123456789").rstrip("_-")
    return next((split for split, names in SPLIT_NAMES.items() if plain in names), None)


def split_families(paths: Iterable[str]) -> list[SplitPaths]:
    """Return the paths that differ in the name of a split, together; a path without such a name is alone, for train.

    In `val/instances_val.json` both names are replaced, in `train/a_val.json` the last one.
    """
    families: dict[str, dict[Split, str]] = {}
    alone: list[str] = []
    for path in paths:
        words = [match.group() for match in _SPLIT_WORD.finditer(path)]
        if not words:
            alone.append(path)
            continue
        word = words[-1]
        split = split_of(word)
        assert split is not None, word
        pattern = _SPLIT_WORD.sub(lambda match, word=word: "{split}" if match.group() == word else match.group(), path)  # type: ignore[misc]
        names = families.setdefault(pattern, {})
        if split not in names or len(word) < len(names[split]):
            names[split] = word
    found = [
        SplitPaths(pattern, {split: names[split] for split in SPLITS if split in names})
        for pattern, names in families.items()
        if "train" in names
    ]
    # A file whose name holds the name of a split by chance, or the only one.
    rest = [
        SplitPaths(pattern, names).path(split)
        for pattern, names in families.items()
        if "train" not in names
        for split in names
    ]
    return [*found, *(SplitPaths(path, {"train": "train"}) for path in [*alone, *rest])]


def common_images(folders: Mapping[Split, str], names: Mapping[Split, str]) -> str | None:
    """Return the pattern of the images folder, given the folder of each split and the names of splits on disk.

    Returns:
        A folder, or a pattern with `{split}`; None if no pattern gives all folders.
    """
    if len(set(folders.values())) == 1:
        return next(iter(folders.values()))
    patterns = {
        "/".join("{split}" if part == names[split] else part for part in folder.split("/"))
        for split, folder in folders.items()
    }
    return patterns.pop() if len(patterns) == 1 else None


@dataclass(frozen=True)
class FolderReading:
    """One way to read a folder.

    Attributes:
        format: the label format.
        fields: of its layer, without `format` and `tasks`.
        images: the source's images folder, which may contain `{split}`.
        splits: the names on disk of the splits that exist.
        has_boxes: whether the labels are boxes, and not classes of images.
        num_images: images that are labeled, as far as they were counted.
        reason: what was found.
        new_files: text files that are missing for this reading, by path relative to the folder.
    """

    format: str
    fields: Mapping[str, Any]
    images: str
    splits: Mapping[Split, str]
    has_boxes: bool
    num_images: int
    reason: str
    new_files: Mapping[str, str] = field(default_factory=dict)
