"""Copies of files with their checksums, while other processes write beside them."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

CHUNK_BYTES = 1 << 20


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file with its times, and return its size and SHA-256. A file that is replaced meanwhile is copied as it
    was when it was opened.

    Raises:
        FileNotFoundError: it does not exist any more.
    """
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writer:
            while chunk := reader.read(CHUNK_BYTES):
                writer.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        status = os.fstat(reader.fileno())
    target.chmod(status.st_mode & 0o777)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return size, digest.hexdigest()


def sha256_of(path: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def files_below(root: Path, is_wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield all regular files below a folder; links are not followed.

    Args:
        root: the folder.
        is_wanted: returns whether an entry of the folder itself is part of it.
    """
    for entry in sorted(root.iterdir()):
        if not is_wanted(entry) or entry.is_symlink():
            continue
        if entry.is_file():
            yield entry
        for folder, _, names in os.walk(entry):
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite file in one consistent state, while other processes write to it."""
    with (
        closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True, timeout=60)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)


def replace_prefix(path: Path, old: str, new: str) -> None:
    """Replace the start of all texts of an SQLite file that start with `old`, such as addresses of artifacts."""
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for column in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                name, kind = column[1], str(column[2]).upper()
                if "CHAR" in kind or "TEXT" in kind:
                    connection.execute(
                        f'UPDATE "{table}" SET "{name}" = ? || substr("{name}", ?) WHERE substr("{name}", 1, ?) = ?',
                        (new, len(old) + 1, len(old), old),
                    )


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
