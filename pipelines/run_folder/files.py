"""Files that are written whole, and survive a crash of the machine once they have their name. Torch-free."""

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOT_SYNCED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM})
"""Error numbers of file systems that cannot sync a folder, and of a folder that only its owner may read."""

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""Error numbers of file systems that cannot exchange two names, such as NFS."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a temporary file beside `path`, sync it and rename it, so that readers see the old file or the new one.

    Missing folders are created. Lone surrogates, which UTF-8 cannot express, are written as escapes. A link, a device
    or a pipe, such as /dev/stdout, is not replaced, but written.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if path.is_symlink() or path.is_char_device() or path.is_fifo():
        path.write_bytes(data)
        return
    create_folder(path.parent)
    with _named_in_errors(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).chmod(0o644)
            rename_synced(Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def rename_synced(source: Path, target: Path, *, content_is_synced: bool = False) -> None:
    """Rename a complete file, or a folder with all of its files, so that `target` also survives a loss of power.

    Without a sync of the content, `target` could be empty afterwards; without a sync of its folder, it could be missing
    although readers have seen it, or a file that was removed later could be there again.

    Args:
        source: what is renamed.
        target: its new path.
        content_is_synced: the caller has synced the content, for example all of the disk at once.
    """
    if not content_is_synced:
        _sync_content(source)
    source.replace(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def exchange_synced(source: Path, target: Path, aside: Path) -> None:
    """Exchange the names of a complete folder and an earlier one, so that readers find `target` at any moment.

    Args:
        source: the new folder, which becomes `target`.
        target: the earlier folder, which becomes `source`.
        aside: what the earlier folder is called for a moment on file systems that cannot exchange names in one step.
    """
    _sync_content(source)
    if not _exchange(source, target):
        target.replace(aside)
        source.replace(target)
        aside.replace(source)
    sync_folder(target.parent)


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise OSError with the reason if a file of this size cannot be written: some libraries do not report it."""
    with _named_in_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)


def create_folder(path: Path) -> None:
    """Create a folder with its parents, so that it survives a loss of power."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk, if its file system can do that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(path: Path) -> None:
    """Delete a folder, also if another process deletes it at the same time."""
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; return False if the file system cannot do that."""
    paths = os.fsencode(first), os.fsencode(second)
    if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def _sync_content(path: Path) -> None:
    if not path.is_dir():
        _sync_file(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_file(Path(folder, name))
        sync_folder(Path(folder))


def _sync_file(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Let OSError name `path`: that of a full disk names no file, and others name the temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
