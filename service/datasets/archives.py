"""Read archives: zip, tar and tar.gz, recognized by their content."""

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import IO, Literal

from service.datasets.errors import ArchiveInvalid
from service.datasets.extraction import Extracted, Extraction, ExtractionLimits, Member

ArchiveKind = Literal["zip", "tar", "tar.gz"]
HEADER_BYTES = 512
"""Bytes at the start of a file by which its kind is recognized."""

_UTF8_NAME = 0x800
_ENCRYPTED = 0x1
_KINDS = {
    stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
    stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket",
}  # fmt: skip
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
    OverflowError, NotImplementedError, RecursionError, MemoryError,
)  # fmt: skip
_DAMAGED_ERRNOS = {None, errno.EINVAL}
"""Numbers of an OSError about damaged content: bz2 sets none, and a seek before the start of the file fails."""


def archive_kind(start: bytes) -> ArchiveKind:
    """Return the kind of an archive from its first bytes.

    Raises:
        ArchiveInvalid: they are not those of a supported archive.
    """
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if start[257:262] == b"ustar":
        return "tar"
    raise ArchiveInvalid("is neither a zip, nor a tar, nor a tar.gz file; pack the data set as one of these")


def extract_archive(archive: Path, folder: Path, limits: ExtractionLimits) -> Extracted:
    """Extract an archive into an empty folder.

    Raises:
        ArchiveInvalid: it is not supported, damaged, unsafe, or exceeds a limit.
        OSError: the disk is full, or cannot be written.
    """
    with archive.open("rb") as file:
        kind = archive_kind(file.read(HEADER_BYTES))
        file.seek(0)
        extraction = Extraction(folder, archive.stat().st_size, limits)
        try:
            if kind == "zip":
                return _extract_zip(file, extraction)
            return _extract_tar(file, kind, extraction)
        except UnicodeError as error:
            raise ArchiveInvalid(
                f"has a name that is not UTF-8 ({error}); rename the file and pack it again"
            ) from error
        except _DAMAGED as error:
            raise _damaged(error) from error
        except OSError as error:
            if error.errno in _DAMAGED_ERRNOS:
                raise _damaged(error) from error
            raise


def _damaged(error: Exception) -> ArchiveInvalid:
    reason = str(error) or type(error).__name__
    return ArchiveInvalid(f"is damaged or not supported ({reason}); pack and upload it again")


def _extract_zip(file: IO[bytes], extraction: Extraction) -> Extracted:
    with zipfile.ZipFile(file) as archive:
        return extraction.extract(_zip_member(archive, entry) for entry in archive.infolist())


def _zip_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveInvalid("is encrypted; pack the data set without a password")
    name = entry.orig_filename  # `filename` ends at the first zero byte
    if not entry.flag_bits & _UTF8_NAME:
        # Without the flag, names are said to be in code page 437; many programs write UTF-8 nevertheless.
        name = name.encode("cp437").decode("utf-8", "surrogateescape")
    file_type = stat.S_IFMT(entry.external_attr >> 16)
    kind = _KINDS.get(file_type, "folder" if name.endswith("/") else "file")
    return Member(name, kind, partial(archive.open, entry))


def _extract_tar(file: IO[bytes], kind: ArchiveKind, extraction: Extraction) -> Extracted:
    content = gzip.GzipFile(fileobj=file) if kind == "tar.gz" else file
    # The mode of a stream: the archive is read once, from its start to its end.
    with tarfile.open(fileobj=content, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        return extraction.extract(_tar_member(archive, entry) for entry in archive)


def _tar_member(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    # The archive keeps all of its members, unless they are forgotten.
    archive.members = []  # type: ignore[attr-defined]
    return Member(entry.name, _tar_kind(entry), partial(_tar_content, archive, entry))


def _tar_content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(entry)
    assert content is not None
    return content


def _tar_kind(entry: tarfile.TarInfo) -> str:
    if entry.issparse():
        return "sparse file"
    if entry.isreg():
        return "file"
    if entry.isdir():
        return "folder"
    if entry.issym() or entry.islnk():
        return "symbolic link" if entry.issym() else "hard link"
    return "device or pipe"
