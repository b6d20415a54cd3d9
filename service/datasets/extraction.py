"""Extract an untrusted archive into a new folder.

Every limit holds while the archive is read: nothing is trusted that a header declares. Only regular files and folders
with plain relative names in UTF-8 are extracted; everything else makes the whole archive invalid, because a data set
without some of its files would be another one.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pipelines.base.printable import is_encodable, printable, shortened
from service.datasets.errors import ArchiveInvalid
from service.disk_space import require_free_bytes

CHUNK_BYTES = 1 << 18
FREE_OF_RATIO_BYTES = 64 << 20
"""Small archives may expand by any ratio: a picture of one color does."""
MAX_NAME_BYTES = 1024
MAX_DEPTH = 32


@dataclass(frozen=True)
class ExtractionLimits:
    """The limits of an extraction.

    Attributes:
        max_files: files and folders.
        max_bytes: of all files together.
        max_file_bytes: of one file.
        max_ratio: of all files to the archive, once they exceed 64 MiB.
        min_free_bytes: of the disk, which the extraction leaves free.
    """

    max_files: int
    max_bytes: int
    max_file_bytes: int
    max_ratio: int
    min_free_bytes: int = 0


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: as the archive has it; bytes that are not UTF-8 are lone surrogates.
        kind: `file`, `folder`, or the name of another kind, such as `symbolic link`.
        open: returns the content of a file.
    """

    name: str
    kind: str
    open: Callable[[], IO[bytes]]


@dataclass
class Extracted:
    """The result of an extraction."""

    num_files: int = 0
    num_bytes: int = 0


class Extraction:
    """Writes the members of one archive into a folder.

    Args:
        folder: an empty folder.
        archive_bytes: size of the archive.
        limits: of the extraction.
    """

    def __init__(self, folder: Path, archive_bytes: int, limits: ExtractionLimits) -> None:
        self._folder, self._limits = folder, limits
        self._entries = 0
        self._folders = {PurePosixPath()}
        ratio_bytes = max(FREE_OF_RATIO_BYTES, archive_bytes * limits.max_ratio)
        self._max_bytes = min(limits.max_bytes, ratio_bytes)
        self._is_limited_by_ratio = ratio_bytes < limits.max_bytes
        self.extracted = Extracted()

    def extract(self, members: Iterator[Member]) -> Extracted:
        """Extract all members.

        Raises:
            ArchiveInvalid: a member is unsafe, or a limit is exceeded.
            DiskAlmostFull: the disk has too little free space.
            OSError: the disk is full, or cannot be written.
        """
        for member in members:
            self._count(1)
            self._extract(member)
        return self.extracted

    def _count(self, new: int) -> None:
        self._entries += new
        if self._entries > self._limits.max_files:
            raise ArchiveInvalid(
                f"has more than {self._limits.max_files} files and folders; divide the data set, or let the operator "
                "raise PYRAMIDION_DATASET_MAX_FILES"
            )

    def _extract(self, member: Member) -> None:
        if member.kind not in ("file", "folder"):
            raise ArchiveInvalid(
                f"{_shown(member.name)} is a {member.kind}; pack files and folders only (tar -h follows links)"
            )
        relative = safe_name(member.name)
        if relative is None:  # the folder itself, as in `tar cf archive.tar .`
            return
        path = self._folder / relative
        if member.kind == "folder":
            self._folders.add(relative)
        # A name creates all folders that it contains, although the archive has no entries for them.
        implied = set(relative.parents) - self._folders
        self._count(len(implied))
        self._folders |= implied
        try:
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                self._copy(member, file)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise ArchiveInvalid(
                f"{_shown(member.name)} occurs twice, or is a file and a folder; pack it once"
            ) from None
        self.extracted.num_files += 1

    def _copy(self, member: Member, file: IO[bytes]) -> None:
        num_bytes = 0
        with member.open() as content:
            while chunk := content.read(CHUNK_BYTES):
                num_bytes += len(chunk)
                self.extracted.num_bytes += len(chunk)
                if num_bytes > self._limits.max_file_bytes:
                    raise ArchiveInvalid(
                        f"{_shown(member.name)} has more than {self._limits.max_file_bytes} bytes; leave it out, or "
                        "let the operator raise PYRAMIDION_DATASET_MAX_FILE_BYTES"
                    )
                if self.extracted.num_bytes > self._max_bytes:
                    raise ArchiveInvalid(self._too_large())
                require_free_bytes(self._folder, self._limits.min_free_bytes, len(chunk))
                file.write(chunk)

    def _too_large(self) -> str:
        if self._is_limited_by_ratio:
            return (
                f"expands to more than {self._limits.max_ratio} times its size; pack the files without compression "
                "(zip -0), or let the operator raise PYRAMIDION_DATASET_MAX_RATIO"
            )
        return (
            f"has more than {self._max_bytes} bytes of files; divide the data set, or let the operator raise "
            "PYRAMIDION_DATASET_MAX_BYTES or the quota"
        )


def safe_name(name: str) -> PurePosixPath | None:
    """Return the name of a member as a relative path; None for the folder itself.

    Raises:
        ArchiveInvalid: the name is absolute, contains `..`, or cannot be the name of a file.
    """
    shown = _shown(name)
    if not is_encodable(name):
        raise ArchiveInvalid(f"the name {shown} is not UTF-8; rename the file and pack it again")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ArchiveInvalid(f"the name {shown} contains control characters; rename the file and pack it again")
    if "\\" in name:
        raise ArchiveInvalid(f"the name {shown} contains a backslash; separate folders by '/'")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveInvalid(f"the name {shown} leads out of the archive; pack the files with relative names")
    if (
        len(name.encode()) > MAX_NAME_BYTES
        or len(path.parts) > MAX_DEPTH
        or any(len(os.fsencode(part)) > 255 for part in path.parts)
    ):
        raise ArchiveInvalid(f"the name {shown} is too long; rename the file and pack it again")
    return path if path.parts else None


def _shown(name: str) -> str:
    return repr(shortened(printable(name)))
