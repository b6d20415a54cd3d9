"""Commits: the objects that represent a run folder in storage, and the keys of all objects of a job.

    jobs/JOB/ATTEMPT/commits/NUMBER    the state of the run folder, see `FolderState`; 0: the attempt starts from it
    jobs/JOB/ATTEMPT/pieces/TOKEN-N    content of files; no key is used twice
    jobs/JOB/ATTEMPT/handover/...      see `service.run_sync.handover`

A commit names all files and their pieces, and is written after the pieces. So whoever reads a commit sees a state in
which the folder really was. Nothing is ever replaced by other content: a request that reaches the storage late, even
one of an older attempt, changes nothing.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.run_folder.layout import is_unfinished
from service.storage.base import StorageError
from service.storage.objects import ObjectMissing, ObjectStore

_JOBS, _COMMITS, _PIECES, _HANDOVER = "jobs", "commits", "pieces", "handover"
ORDER = "order"
"""Name of the object in a handover that is not needed any more once the attempt has started."""

_PIECE = re.compile(r"(?P<attempt>[0-9]+)/pieces/(?P<token>[0-9a-f]{8})-(?P<number>[0-9]{8,})")


class CommitDamaged(StorageError):
    """A commit, or what it names, is missing, or does not have the content that was written."""


def _safe_path(text: str) -> str:
    """Return a path below a run folder; nodes write commits, and no path of theirs may lead elsewhere."""
    path = PurePosixPath(text)
    if not text or "\0" in text or str(path) != text or path.is_absolute() or ".." in path.parts or is_unfinished(path):
        raise ValueError("is not the path of a file in a run folder")
    return text


def _piece_name(text: str) -> str:
    if not _PIECE.fullmatch(text):
        raise ValueError("is not the name of a piece, ATTEMPT/pieces/TOKEN-NUMBER")
    return text


class Piece(BaseModel):
    """A part of a file.

    Attributes:
        name: its key below the objects of the job.
        size: in bytes.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, AfterValidator(_piece_name)]
    size: int = Field(ge=0)


class StoredFile(BaseModel):
    """The content of a file.

    Attributes:
        size: in bytes.
        sha256: of the content, hexadecimal.
        pieces: which give the content one after the other.
    """

    model_config = ConfigDict(frozen=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern="[0-9a-f]{64}")
    pieces: tuple[Piece, ...]


class FolderState(BaseModel):
    """The content of a commit.

    Attributes:
        writer: the token in the names of the writer's pieces.
        used_from: pieces of this writer with smaller numbers are unused unless `files` names them.
        files: by path, in the order in which they were written; None for a file that was removed.
    """

    model_config = ConfigDict(frozen=True)

    writer: str = ""
    used_from: int = 0
    files: dict[Annotated[str, AfterValidator(_safe_path)], StoredFile | None] = Field(default_factory=dict)

    def pieces(self) -> set[str]:
        """Return the names of all pieces of the files."""
        return {piece.name for state in self.files.values() if state is not None for piece in state.pieces}


@dataclass(frozen=True)
class JobObjects:
    """The objects of one job."""

    store: ObjectStore
    job_id: str

    @property
    def _prefix(self) -> str:
        return f"{_JOBS}/{self.job_id}/"

    def put_piece(self, attempt: int, token: str, number: int, content: BinaryIO) -> str:
        """Store a piece and return its name. Raises StorageUnavailable."""
        name = f"{attempt}/{_PIECES}/{token}-{number:08d}"
        self.store.put(self._prefix + name, content)
        return name

    def read_piece(self, piece: Piece, start: int = 0) -> Iterator[bytes]:
        """Yield the content of a piece from a byte on. Raises CommitDamaged and StorageUnavailable."""
        try:
            if start < piece.size:
                yield from self.store.read(self._prefix + piece.name, start)
        except ObjectMissing as error:
            raise CommitDamaged(f"job {self.job_id}: {error}") from error

    def put_commit(self, attempt: int, number: int, content: bytes) -> None:
        """Store a commit; a number may be used again only with the same content. Raises StorageUnavailable."""
        self.store.put(self._commit(attempt, number), io.BytesIO(content))

    def newest_commit(self, attempt: int, after: int = -1) -> tuple[int, FolderState] | None:
        """Return the number and the content of an attempt's newest commit; None if it has none after a number.

        Raises:
            CommitDamaged: its content is not a commit.
            StorageUnavailable: the storage does not answer.
        """
        last = self._commit(attempt, after) if after >= 0 else ""
        keys = list(self.store.keys(f"{self._prefix}{attempt}/{_COMMITS}/", last))
        if not keys:
            return None
        content = b"".join(self.store.read(keys[-1]))
        try:
            return int(PurePosixPath(keys[-1]).name), FolderState.model_validate_json(content)
        except ValueError as error:
            raise CommitDamaged(f"{self.store.label}: {keys[-1]} is not a commit: {error}") from error

    def newest_attempt(self, before: int) -> int | None:
        """Return the newest attempt before another one that has commits."""
        keys = (key.removeprefix(self._prefix).split("/") for key in self.store.keys(self._prefix))
        attempts = {int(key[0]) for key in keys if key[0].isdigit() and key[1:2] == [_COMMITS]}
        return max((attempt for attempt in attempts if attempt < before), default=None)

    def stored_pieces(self) -> set[str]:
        """Return the names of all pieces, used or not."""
        names = (key.removeprefix(self._prefix) for key in self.store.keys(self._prefix))
        return {name for name in names if _PIECE.fullmatch(name)}

    def delete_unused(self, attempt: int, number: int, state: FolderState) -> None:
        """Delete what no reader needs after a commit of the current attempt: older attempts, commits and pieces.

        Pieces that the attempt's node has stored for its next commit are kept. Raises StorageUnavailable.
        """
        used, commit = state.pieces(), self._commit(attempt, number)

        def is_unused(key: str) -> bool:
            name = key.removeprefix(self._prefix)
            if name in used:
                return False
            if name.split("/")[1:2] == [_HANDOVER]:
                # A driver that wakes up late, of any attempt, must find the decisions.
                return name.endswith(f"/{ORDER}")
            if not name.startswith(f"{attempt}/"):
                return name.split("/")[0].isdigit() and int(name.split("/")[0]) < attempt
            found = _PIECE.fullmatch(name)
            if found is None:
                return key < commit
            return found["token"] != state.writer or int(found["number"]) < state.used_from

        self.store.delete([key for key in self.store.keys(self._prefix) if is_unused(key)])

    def handover_prefix(self, attempt: int) -> str:
        """Return the start of the keys of an attempt's handover."""
        return f"{self._prefix}{attempt}/{_HANDOVER}/"

    def delete_all(self) -> None:
        """Delete all objects of the job. Raises StorageUnavailable."""
        self.store.delete(list(self.store.keys(self._prefix)))

    def _commit(self, attempt: int, number: int) -> str:
        return f"{self._prefix}{attempt}/{_COMMITS}/{number:010d}"


def stored_jobs(store: ObjectStore) -> set[str]:
    """Return the ids of all jobs that have objects. Raises StorageUnavailable."""
    # Every job has many objects, so the search continues after the last possible key of the job that was found.
    found: set[str] = set()
    after = ""
    while (key := next(store.keys(f"{_JOBS}/", after), None)) is not None:
        found.add(key.split("/")[1])
        after = f"{_JOBS}/{key.split('/')[1]}/~"
    return found
