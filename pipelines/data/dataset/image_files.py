"""The image files of a source, and facts about each file. Torch-free."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.base.errors import DataError
from pipelines.base.links import link_policy, walk
from pipelines.base.paths import IMAGE_SUFFIXES, below, is_ignored
from pipelines.data.images import Exif, ImageFacts, examine_image

MAX_THREADS = 16


class ImageFolder:
    """The files below a source's images folder.

    The tree is walked once; files that are reached without symbolic links need no further check of their paths, and
    neither do linked ones if links are followed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._plain = set(_files_below(self.folder))

    def locate(self, file_name: str) -> Path:
        """Return the path of a file below the folder.

        Raises:
            ValueError: the name is absolute, contains `..`, or leads out of the folder through a symbolic link.
            FileNotFoundError: the file is missing.
        """
        if file_name in self._plain:
            return self.folder / file_name
        path = below(self.folder, file_name)
        if not path.is_file():
            raise FileNotFoundError(file_name)
        return path

    def images(self) -> Iterator[str]:
        """Yield the names of all image files in sorted order, except hidden files, and links that are not followed."""
        for name in sorted(self._plain):
            path = Path(name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not is_ignored(path):
                yield name


def _files_below(folder: Path) -> Iterator[str]:
    if link_policy() != "follow":
        yield from _files_without_links(folder, "")
        return
    for parent, _, files in walk(folder):
        paths = (Path(parent, name) for name in files)
        yield from (path.relative_to(folder).as_posix() for path in paths if path.is_file())


def _files_without_links(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except OSError:  # an unreadable folder: `locate` reports the images that are listed in it
        return
    with entries:
        for entry in entries:
            if entry.is_symlink():
                continue
            if entry.is_dir():
                yield from _files_without_links(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name


def examine_images(images: Iterable[tuple[Path, Exif]]) -> dict[tuple[Path, Exif], ImageFacts | str]:
    """Decode every file once on several threads; return its facts, or the reason why it cannot be read.

    Each file is read completely, also to compute its content hash. The 364 JPEGs of BCCD (640 x 480) took 0.4 s on two
    CPU cores, about 2 ms of one core per image; COCO's 118,000 would take two minutes. PNGs take several times as long
    because they are decoded in full.
    """
    unique = list(dict.fromkeys(images))
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(unique, pool.map(_examine, unique), strict=True))


def _examine(image: tuple[Path, Exif]) -> ImageFacts | str:
    try:
        return examine_image(*image)
    except DataError as error:
        return error.problems[0].message
