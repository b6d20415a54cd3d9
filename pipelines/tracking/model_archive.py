"""An exported model as one archive, which has the same bytes wherever and whenever it is made. Torch-free."""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
    """

    def __init__(self, folder: Path) -> None:
        self._opened: list[tuple[str, BinaryIO, int]] = []
        with ExitStack() as stack:
            for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
                file = stack.enter_context(path.open("rb"))
                self._opened.append((path.relative_to(folder).as_posix(), file, os.fstat(file.fileno()).st_size))
            self._stack = stack.pop_all()

    @property
    def num_bytes(self) -> int:
        return sum(len(_header(name, size)) + _padded(size) for name, _, size in self._opened) + 2 * _BLOCK

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; raises OSError if a file has become shorter."""
        for name, file, size in self._opened:
            yield _header(name, size)
            file.seek(0)
            remaining = size
            while remaining:
                chunk = file.read(min(_CHUNK_BYTES, remaining))
                if not chunk:
                    raise OSError(f"{name} has become shorter while it was read")
                remaining -= len(chunk)
                yield chunk
            yield bytes(_padded(size) - size)
        yield bytes(2 * _BLOCK)

    def facts(self) -> ArchiveFacts:
        """Read the files once, and return the checksum and the size."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
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


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
