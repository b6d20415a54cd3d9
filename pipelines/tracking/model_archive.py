"""An exported model as one archive, which has the same bytes wherever and whenever it is made. Torch-free."""

import hashlib
import os
import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

_BLOCK = tarfile.BLOCKSIZE
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ArchiveFacts:
    """Checksum (hexadecimal SHA-256) and size of an archive."""

    sha256: str
    num_bytes: int


class ModelArchive:
    """The tar archive of a folder: files in order of their names, without owners and times.

    The files are opened at once, so that the archive is complete even if the folder is removed while it is read.

    Args:
        folder: the exported model.

    Attributes:
        num_bytes: size of the archive.
    """

    def __init__(self, folder: Path) -> None:
        self._parts: list[bytes | tuple[BinaryIO, int]] = []
        with ExitStack() as stack:
            for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
                file = stack.enter_context(path.open("rb"))
                size = os.fstat(file.fileno()).st_size
                self._parts += [_header(path.relative_to(folder).as_posix(), size), (file, size), bytes(-size % _BLOCK)]
            self._stack = stack.pop_all()
        self._parts.append(bytes(2 * _BLOCK))
        *self._starts, self.num_bytes = accumulate(map(_size_of, self._parts), initial=0)

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        """Return at most `num_bytes` bytes from a position; several threads may call this at once.

        They are fewer at the end of a header or file, and none at the end of the archive or where a file has become
        shorter.
        """
        if offset >= self.num_bytes:
            return b""
        number = bisect_right(self._starts, offset) - 1
        part, inside = self._parts[number], offset - self._starts[number]
        if isinstance(part, bytes):
            return part[inside : inside + num_bytes]
        file, size = part
        return os.pread(file.fileno(), min(num_bytes, size - inside), inside)

    def facts(self) -> ArchiveFacts:
        """Read the files once, and return the checksum and the size; raises OSError if one has become shorter."""
        digest, position = hashlib.sha256(), 0
        while position < self.num_bytes:
            chunk = self.read_at(_CHUNK_BYTES, position)
            if not chunk:
                raise OSError("a file of the model has become shorter while it was read")
            digest.update(chunk)
            position += len(chunk)
        return ArchiveFacts(digest.hexdigest(), self.num_bytes)

    def close(self) -> None:
        """Close the files."""
        self._stack.close()


def archive_facts(folder: Path) -> ArchiveFacts:
    """Return the facts of the archive of a folder."""
    archive = ModelArchive(folder)
    try:
        return archive.facts()
    finally:
        archive.close()


def unpack_archive(archive: Path, folder: Path) -> Sequence[str]:
    """Unpack an archive into a new folder, and return the names of its files.

    Raises:
        tarfile.TarError: it is not an archive, or a name in it leads out of the folder.
    """
    folder.mkdir(parents=True)
    with tarfile.open(archive, "r:") as opened:
        opened.extractall(folder, filter="data")
        return opened.getnames()


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _size_of(part: bytes | tuple[BinaryIO, int]) -> int:
    return len(part) if isinstance(part, bytes) else part[1]
