"""Push: store what changed in the scratch folder of an attempt as commits. It runs on the node of the attempt."""

import hashlib
import io
import itertools
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from service.run_sync.commits import FolderState, JobObjects, Piece, StoredFile
from service.run_sync.scanning import Changes, FileVersion, find_changes, scan, split

MAX_APPENDED_BYTES = 64 << 20
"""Maximum size of new content of a growing file in one commit; the rest follows in the next one."""

MERGED_BYTES = 8 << 20
"""Pieces that are larger are never stored again together with what follows."""

_COMPARED_BYTES = 4096
"""Bytes before the end of what was stored of a growing file, which show whether it is still the same file."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Self: ...


class HashingReader:
    """Reads a stream once and computes the SHA-256 and the size of what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.sha256, self.size = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.sha256.update(content)
        self.size += len(content)
        return content


@dataclass(frozen=True)
class Stored:
    """Changes whose content is stored, and which the next commit names."""

    files: dict[str, StoredFile | None]
    versions: dict[str, FileVersion]
    removed: list[str]


@dataclass(frozen=True)
class _Growing:
    """The stored part of a file that is appended to."""

    state: StoredFile
    hash: _Hash
    tail: bytes


@dataclass(frozen=True)
class _Next:
    """A commit that may be stored already, and what is true once it is."""

    content: bytes
    state: FolderState
    growing: dict[str, _Growing]
    stored: Stored | None


class FolderPusher:
    """Pushes one folder.

    Files that are replaced whole are stored together as they were at one moment (`find`, `upload`). That may take long,
    and another thread may do it. Files that are appended to are stored by each `commit`, so they may be newer. A commit
    that could not be stored is repeated as it was, because the storage may have it.

    Args:
        folder: the scratch folder, which was restored to `base`.
        objects: of the job.
        attempt: number of the attempt, which no other process pushes.
        base: the state from which the attempt starts.
    """

    def __init__(self, folder: Path, objects: JobObjects, attempt: int, base: FolderState) -> None:
        self._folder, self._objects, self._attempt = folder, objects, attempt
        self._token, self._numbers = secrets.token_hex(4), itertools.count(1)
        self._used_from: int | None = None
        self._state, self._number = base, 0
        self._next: _Next | None = None
        appended, whole = split({path: version for path, version in scan(folder).items() if base.files.get(path)})
        self._versions = whole
        self._growing: dict[str, _Growing] = {}
        for path in appended:
            state = base.files[path]
            assert state is not None
            with (folder / path).open("rb") as file:
                content_hash = hashlib.file_digest(file, "sha256")
                file.seek(max(0, state.size - _COMPARED_BYTES))
                self._growing[path] = _Growing(state, content_hash, file.read())

    def push(self) -> bool:
        """Store everything that changed; return whether the folder was at rest meanwhile. Raises StorageUnavailable."""
        changes = self.find()
        if changes is None:
            return False
        stored = self.upload(changes)
        if stored is None:
            return False
        while self.commit(stored):
            stored = None
        return True

    def find(self) -> Changes | None:
        """Return the changes of files that are replaced whole; None if they change all the time."""
        changes = find_changes(self._folder, self._versions)
        self._used_from = next(self._numbers) if changes else None
        return changes

    def upload(self, changes: Changes) -> Stored | None:
        """Store the content of changes; return None if a file was written to meanwhile. Raises StorageUnavailable."""
        files: dict[str, StoredFile | None] = {}
        try:
            for changed in changes.files:
                files[changed.path] = store_file(self._objects, self._attempt, self._token, self._numbers, changed.file)
                if not changed.is_unchanged:
                    return None
        finally:
            changes.close()
        files.update(dict.fromkeys(changes.removed))
        return Stored(files, {changed.path: changed.version for changed in changes.files}, changes.removed)

    def commit(self, stored: Stored | None = None) -> bool:
        """Store a commit with changes and with what was appended; return False if nothing is new.

        Raises:
            StorageUnavailable: nothing has changed, and the same call may be repeated.
        """
        if self._next is not None:
            # The storage may have this commit, so it is repeated before another one; `stored` may be in it.
            stored = None if self._next.stored is stored else stored
            self._store_next(self._next)
        growing = {path: found for path in split(scan(self._folder))[0] if (found := self._grown(path)) is not None}
        gone = [path for path in self._growing if not (self._folder / path).exists()]
        changed: dict[str, StoredFile | None] = {path: found.state for path, found in growing.items()}
        changed |= dict.fromkeys(gone)
        changed |= {} if stored is None else stored.files
        if not changed:
            return False
        kept = {path: state for path, state in self._state.files.items() if path not in changed}
        unused_before = self._used_from if stored is None and self._used_from is not None else next(self._numbers)
        state = FolderState(writer=self._token, used_from=unused_before, files={**kept, **changed})
        remaining = {path: found for path, found in self._growing.items() if path not in gone}
        content = state.model_dump_json().encode()
        self._store_next(_Next(content, state, {**remaining, **growing}, stored))
        return True

    def push_last(self, path: str, content: bytes) -> None:
        """Store a commit with a file that is not in the folder; raises as `commit`."""
        file = store_file(self._objects, self._attempt, self._token, self._numbers, io.BytesIO(content))
        self.commit(Stored({path: file}, {}, []))

    def _store_next(self, following: _Next) -> None:
        self._next = following
        self._objects.put_commit(self._attempt, self._number + 1, following.content)
        self._number += 1
        self._state, self._growing, self._next = following.state, following.growing, None
        if following.stored is not None:
            self._used_from = None
            kept = {path: version for path, version in self._versions.items() if path not in following.stored.removed}
            self._versions = {**kept, **following.stored.versions}

    def _grown(self, path: str) -> _Growing | None:
        """Store what was appended to a file; return None if it has not changed, or does not exist any more.

        Small pieces at the end are stored again together with it, in such a way that there are at most as many as the
        file's size has binary digits, and each byte is stored at most as often.
        """
        before = self._growing.get(path)
        try:
            file = (self._folder / path).open("rb")
        except FileNotFoundError:
            return None
        with file:
            if before is not None and not _continues(file, before):
                before = None
            start = 0 if before is None else before.state.size
            end = min(os.fstat(file.fileno()).st_size, start + MAX_APPENDED_BYTES)
            if before is not None and end == start:
                return None
            file.seek(start)
            new = file.read(end - start)
            end = start + len(new)
            pieces = [] if before is None else list(before.state.pieces)
            while pieces and pieces[-1].size <= min(end - start, MERGED_BYTES):
                start -= pieces.pop().size
            file.seek(start)
            content = file.read(end - start)
            if before is not None and not _continues(file, before):
                return None  # replaced meanwhile; the next commit has the new content
        name = self._objects.put_piece(self._attempt, self._token, next(self._numbers), io.BytesIO(content))
        pieces.append(Piece(name=name, size=len(content)))
        total = hashlib.sha256() if before is None else before.hash.copy()
        total.update(new)
        state = StoredFile(size=end, sha256=total.hexdigest(), pieces=tuple(pieces))
        tail = (content if before is None else before.tail + new)[-_COMPARED_BYTES:]
        return _Growing(state, total, tail)


def _continues(file: BinaryIO, before: _Growing) -> bool:
    """Return whether a file starts with what is stored of it; it may have been replaced, or emptied and filled."""
    file.seek(before.state.size - len(before.tail))
    return file.read(len(before.tail)) == before.tail


def store_file(
    objects: JobObjects, attempt: int, token: str, numbers: "itertools.count[int]", file: BinaryIO
) -> StoredFile:
    """Store a whole file as one piece and return its state. Raises StorageUnavailable."""
    file.seek(0)
    reader = HashingReader(file)
    name = objects.put_piece(attempt, token, next(numbers), reader)  # type: ignore[arg-type]
    piece = Piece(name=name, size=reader.size)
    return StoredFile(size=reader.size, sha256=reader.sha256.hexdigest(), pieces=(piece,))
