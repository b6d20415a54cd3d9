"""Consistent views of a folder that another process writes to."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from pipelines.run_folder.layout import is_appended, is_unfinished

STABLE_TRIES = 20
SMALL_BYTES = 64 << 10
"""Files of at most this size are read into memory: a process may have only so many files open."""


@dataclass(frozen=True)
class FileVersion:
    """Identifies one content of a file: whoever replaces or changes the file changes one of these."""

    device: int
    inode: int
    modified_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


Versions = dict[str, FileVersion]
"""Files by their path relative to a folder."""


def scan(folder: Path) -> Versions:
    """Return all complete regular files below a folder; links are not followed."""
    found: Versions = {}
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        folders[:] = [name for name in folders if not is_unfinished(relative / name)]
        for name in names:
            path = Path(parent, name)
            if is_unfinished(relative / name) or path.is_symlink() or not path.is_file():
                continue
            try:
                found[(relative / name).as_posix()] = FileVersion.of(path.stat())
            except FileNotFoundError:  # replaced or removed meanwhile
                continue
    return found


def split(versions: Versions) -> tuple[Versions, Versions]:
    """Return the files that are appended to, and the files that are replaced whole."""
    appended = {path: version for path, version in versions.items() if is_appended(Path(path))}
    return appended, {path: version for path, version in versions.items() if path not in appended}


@dataclass(frozen=True)
class ChangedFile:
    """A file that has changed, open with the content of `version`, or with that content in memory."""

    path: str
    version: FileVersion
    file: BinaryIO

    @property
    def is_unchanged(self) -> bool:
        """False if the open file was written to since; a file that replaces it does not matter."""
        return isinstance(self.file, io.BytesIO) or FileVersion.of(os.fstat(self.file.fileno())) == self.version


@dataclass(frozen=True)
class Changes:
    """The files in which a folder differs from an earlier state, as all of them were at one moment.

    Attributes:
        files: changed and new files, oldest first, so that what a writer writes last comes last.
        removed: paths that do not exist any more.
    """

    files: list[ChangedFile]
    removed: list[str]

    def close(self) -> None:
        for changed in self.files:
            changed.file.close()

    def __bool__(self) -> bool:
        return bool(self.files or self.removed)


def find_changes(folder: Path, known: Mapping[str, FileVersion]) -> Changes | None:
    """Return how the files that are replaced whole differ from an earlier state; None if they change all the time.

    The files are opened between two scans that see the same. So all of them had their content at the same moment, and a
    checkpoint is never combined with another file of an earlier or a later moment.
    """
    before = split(scan(folder))[1]
    for _ in range(STABLE_TRIES):
        changes = _opened(folder, before, known)
        after = split(scan(folder))[1]
        if changes is not None and before == after:
            return changes
        if changes is not None:
            changes.close()
        before = after
    return None


def _opened(folder: Path, versions: Versions, known: Mapping[str, FileVersion]) -> Changes | None:
    """Open the changed files; return None if one of them is another one by now."""
    changes = Changes([], [path for path in known if path not in versions])
    changed = [path for path, version in versions.items() if known.get(path) != version]
    for path in sorted(changed, key=lambda path: (versions[path].modified_ns, path)):
        changed_file = _opened_file(folder / path, path, versions[path])
        if changed_file is None:
            changes.close()
            return None
        changes.files.append(changed_file)
    return changes


def _opened_file(place: Path, path: str, version: FileVersion) -> ChangedFile | None:
    """Open one file; return None if it is another one by now."""
    try:
        found = ChangedFile(path, version, place.open("rb"))
    except FileNotFoundError:
        return None
    if version.size > SMALL_BYTES and found.is_unchanged:
        return found
    with found.file:
        content = found.file.read() if found.is_unchanged else b""
        return ChangedFile(path, version, io.BytesIO(content)) if found.is_unchanged else None
