"""Find out why listed images are missing, and what to change. Torch-free."""

import json
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from pipelines.base.links import walk
from pipelines.base.paths import IMAGE_SUFFIXES, is_ignored
from pipelines.formats.source_split import SourceSplit

MAX_FILES = 1_000_000
"""Image files of a data root that are looked at; more are ignored."""


@dataclass(frozen=True)
class MissingReason:
    """Remedy for a missing image; images with the same `cause` are reported as one line."""

    advice: str
    cause: str


class MisplacedImages:
    """Finds the files that label files mean. The data root is walked once, when the first image is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def reasons(
        self, missing: Collection[str], listed: Collection[str], present: Iterable[str], split: SourceSplit
    ) -> dict[str, MissingReason]:
        """Return why images are missing, by their names.

        Args:
            missing: the names of the missing images.
            listed: the names of all images that the label files of the split have.
            present: the names of all images in the images folder.
            split: the split of the images.
        """
        if not missing:
            return {}
        folder, inside = self._folder_of(listed, len(listed) - len(missing), split)
        similar = _SimilarNames(present)
        reasons: dict[str, MissingReason] = {}
        for name in missing:
            if folder is not None and name in inside:
                reasons[name] = MissingReason(self._other_folder(folder, len(inside), len(listed), split), "folder")
            elif (found := similar.closest(name)) is not None:
                difference = " and ".join(_differences(name, found))
                advice = f"it has {found!r}, {difference}: correct the name in the label file, or rename the file"
                reasons[name] = MissingReason(advice, difference)
            else:
                reasons[name] = self._elsewhere(name, split)
        return reasons

    def folder_advice(self, listed: Collection[str], split: SourceSplit) -> str:
        """Return what to do about an images folder that is missing."""
        folder, inside = self._folder_of(listed, 0, split)
        if folder is None:
            return f"write the folder of the images, relative to the data root, as {_field(split)}"
        return self._other_folder(folder, len(inside), len(listed), split)

    @cached_property
    def _files(self) -> "_SimilarNames":
        return _SimilarNames(islice(_images_below(self._root), MAX_FILES))

    def _folder_of(self, listed: Collection[str], num_found: int, split: SourceSplit) -> tuple[str | None, set[str]]:
        """Return another folder below the data root that has most of the images, and their names.

        It must have more than half of them, and more than the present folder. Names with other extensions count only if
        no folder has them as they are written.
        """
        present = posixpath.normpath(split.fill(split.images))
        for shortened in (str, _without_extension):
            inside: dict[str, set[str]] = defaultdict(set)
            for name in listed:
                for file in self._files.with_last_part(name):
                    if (folder := _start_of(shortened(file), shortened(name))) is not None:
                        inside[folder].add(name)
            best = min(inside, key=lambda folder: (-len(inside[folder]), len(folder), folder), default=None)
            if best is not None and best != present and len(inside[best]) > max(num_found, len(listed) // 2):
                return best, inside[best]
        return None, set()

    def _other_folder(self, folder: str, num_inside: int, num_listed: int, split: SourceSplit) -> str:
        name = re.escape(split.name_on_disk)
        pattern = re.sub(rf"(?<![A-Za-z]){name}(?![A-Za-z])", "{split}", folder)
        others = (other for other in split.split_names.values() if other != split.name_on_disk)
        is_split = any((self._root / pattern.replace("{split}", other)).is_dir() for other in others)
        setting = pattern if is_split else folder
        shown = setting if re.fullmatch(r"[\w./-]+", setting) else json.dumps(setting, ensure_ascii=False)
        count = "all" if num_inside == num_listed else f"{num_inside} of"
        return f"{count} {num_listed} listed images are found with {_field(split)}: {shown}"

    def _elsewhere(self, name: str, split: SourceSplit) -> MissingReason:
        images = posixpath.normpath(split.fill(split.images))
        files = [file for file in self._files.with_last_part(name) if not file.startswith(f"{images}/")]
        if not files:
            return MissingReason("add the file, or correct its name in the label file", "unknown")
        advice = (
            f"the data root has {files[0]!r}: move it there, or choose a folder that contains all images as "
            f"{_field(split)} and write the names relative to it"
        )
        return MissingReason(advice, "elsewhere")


class _SimilarNames:
    """Paths of images, to be found by names that differ in spelling, in the extension, or in folders at their start."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_key: dict[str, str] = {}
        self._by_stem: dict[str, str] = {}
        self._by_last_part: dict[str, list[str]] = defaultdict(list)
        for name in names:
            key = _key(name)
            stem = _without_extension(key)
            self._by_key.setdefault(key, name)
            self._by_stem.setdefault(stem, name)
            self._by_last_part[posixpath.basename(stem)].append(name)

    def closest(self, name: str) -> str | None:
        """Return the path that differs least from a name, or None."""
        parts = _key(name).split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        found = [self._by_key.get(tail) or self._by_stem.get(_without_extension(tail)) for tail in tails]
        return next(filter(None, found), None)

    def with_last_part(self, name: str) -> list[str]:
        """Return the paths, in any folder, whose last part is that of `name`, in other spelling or with any extension.

        Names such as `1.jpg`, which hundreds of folders may have, are cut to the first hundred.
        """
        return self._by_last_part.get(posixpath.basename(_without_extension(_key(name))), [])[:100]


def _images_below(root: Path) -> Iterator[str]:
    for parent, folders, files in walk(root, lists_all=False):
        folders[:] = sorted(name for name in folders if not is_ignored(Path(name)))
        inside = Path(parent).relative_to(root)
        for name in sorted(files):
            if posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES and not is_ignored(Path(name)):
                yield (inside / name).as_posix()


def _field(split: SourceSplit) -> str:
    return f"data.sources.{split.source_name}.images"


def _start_of(file: str, name: str) -> str | None:
    """Return the folder in which `file` has the relative path `name`."""
    if file == name:
        return "."
    return file.removesuffix(f"/{name}") if file.endswith(f"/{name}") else None


def _differences(name: str, found: str) -> Iterator[str]:
    """Yield how the name of a file differs from a name in a label file."""
    if "\\" in name:
        yield "with '/' in place of '\\'"
        name = name.replace("\\", "/")
    if num_dropped := name.count("/") - found.count("/"):
        parts = name.split("/")
        yield f"without '{'/'.join(parts[:num_dropped])}/'"
        name = "/".join(parts[num_dropped:])
    composed, composed_found = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", found)
    if (composed == name) != (composed_found == found):
        yield "with letters that look the same and are stored in another Unicode form"
    (stem, suffix), (stem_found, suffix_found) = posixpath.splitext(composed), posixpath.splitext(composed_found)
    if stem != stem_found:
        yield "in other upper and lower case"
    if suffix != suffix_found:
        yield f"with the extension {suffix_found!r}"


def _without_extension(path: str) -> str:
    return posixpath.splitext(path)[0]


def _key(name: str) -> str:
    """Return a name without what differs between systems: case, slashes, and the form of composed letters."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
