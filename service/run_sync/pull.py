"""Pull: let a folder follow the commits of an attempt. It runs beside the supervisor; a node restores with it."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.run_folder.files import create_folder, rename_synced
from pipelines.run_folder.layout import is_appended
from service.run_sync.commits import CommitDamaged, FolderState, JobObjects, StoredFile

_ARRIVING = ".arriving-"
"""Start of the hidden name of content that is being read; no reader sees it."""


@dataclass(frozen=True)
class _Present:
    """The content of a file of the folder."""

    size: int
    hash: "hashlib._Hash"


@dataclass(frozen=True)
class _Arrived:
    """Content that was read and verified, in a file of a hidden name.

    Attributes:
        start: bytes of the target that remain in front of it; 0 if it replaces the whole file.
        content: of the whole file, once it is in its place.
    """

    hidden: Path
    start: int
    content: _Present


class FolderPuller:
    """Applies commits to a folder.

    Nothing is remembered but to save work: the files of the folder themselves show what is missing. So a process that
    is killed at any moment is replaced by the next one.

    Args:
        folder: which no other process changes as long as the attempt may push; hidden files are ignored.
        objects: of the job.
        attempt: number of the attempt, the only one whose commits are read.
    """

    def __init__(self, folder: Path, objects: JobObjects, attempt: int) -> None:
        self._folder, self._objects, self._attempt = folder, objects, attempt
        self._number = 0
        self._state: FolderState | None = None
        self._present: dict[str, _Present] = {}

    def pull(self) -> bool:
        """Apply the newest commit if there is a new one; return whether there was.

        Afterward the folder is as the commit says: new files were renamed to their place, or appended to, in the order
        in which they were written.

        Raises:
            CommitDamaged: the content of a file is not what the commit says; its target is unchanged.
            StorageError: the storage does not answer.
            OSError: the folder cannot be written.
        """
        newest = self._objects.newest_commit(self._attempt, after=self._number)
        if newest is None:
            return False
        number, state = newest
        self.apply(state)
        self._number, self._state = number, state
        return True

    def delete_unused(self) -> None:
        """Delete the objects of the job that nobody needs any more. Raises StorageUnavailable."""
        if self._state is not None:
            self._objects.delete_unused(self._attempt, self._number, self._state)

    def apply(self, state: FolderState) -> None:
        """Give the folder the content of a commit; raises as `pull`."""
        changed = {path: file for path, file in state.files.items() if not self._has(path, file)}
        arrived: dict[str, _Arrived] = {}
        try:
            # Everything is read first, so that a folder is in between two states for moments only.
            for path, file in changed.items():
                if file is not None:
                    arrived[path] = self._read(path, file)
            for path, file in changed.items():
                # Unknown until it succeeds.
                self._present.pop(path, None)
                if file is None:
                    (self._folder / path).unlink(missing_ok=True)
                else:
                    self._put_in_place(self._folder / path, arrived[path])
                    self._present[path] = arrived[path].content
        finally:
            for one in arrived.values():
                one.hidden.unlink(missing_ok=True)

    def _has(self, path: str, state: StoredFile | None) -> bool:
        target = self._folder / path
        if state is None:
            return not target.exists()
        if path not in self._present:
            with suppress(FileNotFoundError), target.open("rb") as file:
                content_hash = hashlib.file_digest(file, "sha256")
                self._present[path] = _Present(file.tell(), content_hash)
        found = self._present.get(path)
        return found is not None and (found.size, found.hash.hexdigest()) == (state.size, state.sha256)

    def _read(self, path: str, state: StoredFile) -> _Arrived:
        """Read what a file lacks, or all of it if it is another file, and verify the content of the whole file."""
        target, found = self._folder / path, self._present.get(path)
        create_folder(target.parent)
        hidden = target.with_name(f"{_ARRIVING}{target.name}")
        if is_appended(Path(path)) and found is not None and found.size <= state.size:
            content_hash = found.hash.copy()
            if self._copy(state, found.size, hidden, content_hash) == state.sha256:
                return _Arrived(hidden, found.size, _Present(state.size, content_hash))
        content_hash = hashlib.sha256()
        if self._copy(state, 0, hidden, content_hash) != state.sha256 or hidden.stat().st_size != state.size:
            hidden.unlink()
            raise CommitDamaged(f"job {self._objects.job_id}: {path} in the storage is not what was written to it")
        return _Arrived(hidden, 0, _Present(state.size, content_hash))

    def _copy(self, state: StoredFile, start: int, target: Path, content_hash: "hashlib._Hash") -> str:
        """Write the content of a file from a byte on, and return the digest of `content_hash` after it."""
        with target.open("wb") as new:
            for piece in state.pieces:
                for chunk in self._objects.read_piece(piece, start):
                    new.write(chunk)
                    content_hash.update(chunk)
                start = max(0, start - piece.size)
        return content_hash.hexdigest()

    def _put_in_place(self, target: Path, arrived: _Arrived) -> None:
        if arrived.start == 0:
            arrived.hidden.chmod(0o644)
            rename_synced(arrived.hidden, target)
            return
        with target.open("ab") as file, arrived.hidden.open("rb") as new:
            shutil.copyfileobj(new, file)
            file.flush()
            os.fsync(file.fileno())
