"""The state from which an attempt starts: commit 0, written beside the supervisor, and restored on the node."""

import itertools
import secrets
from pathlib import Path

from pipelines.run_folder.files import file_sha256
from service.run_sync.commits import CommitDamaged, FolderState, JobObjects, Piece, StoredFile
from service.run_sync.pull import FolderPuller
from service.run_sync.push import store_file
from service.run_sync.scanning import scan


def publish_start(run_folder: Path, objects: JobObjects, attempt: int) -> None:
    """Store the run folder as the state from which an attempt starts; nothing happens if that was done before.

    What earlier attempts have stored is not stored again. What they store from now on does not matter: this attempt
    starts from what the service has seen of them. The folders of earlier attempts, with their logs, stay here.

    Args:
        run_folder: of the service, while no attempt runs.

    Raises:
        StorageError: the storage does not answer.
        OSError: the folder cannot be read.
    """
    if objects.newest_commit(attempt) is not None:
        return
    earlier = _earlier_files(objects, attempt)
    token, numbers = secrets.token_hex(4), itertools.count(1)
    files: dict[str, StoredFile | None] = {}
    paths = [path for path in scan(run_folder).items() if not path[0].startswith("attempts/")]
    for path, _ in sorted(paths, key=lambda found: found[1].modified_ns):
        stored = earlier.get(path)
        if stored is not None and stored.sha256 == file_sha256(run_folder / path):
            files[path] = stored
            continue
        with (run_folder / path).open("rb") as file:
            files[path] = store_file(objects, attempt, token, numbers, file)
    state = FolderState(writer=token, used_from=next(numbers), files=files)
    objects.put_commit(attempt, 0, state.model_dump_json().encode())


def _earlier_files(objects: JobObjects, attempt: int) -> dict[str, StoredFile]:
    """Return the files of the newest commit of the attempt before, as far as all of their pieces are stored."""
    before = objects.newest_attempt(before=attempt)
    newest = None if before is None else objects.newest_commit(before)
    if newest is None:
        return {}
    pieces = objects.stored_pieces()

    def is_stored(piece: Piece) -> bool:
        return piece.name in pieces

    files = newest[1].files.items()
    return {path: state for path, state in files if state is not None and all(map(is_stored, state.pieces))}


def restore_start(folder: Path, objects: JobObjects, attempt: int) -> FolderState:
    """Give a folder of a node the state from which an attempt starts, and return it; raises as `FolderPuller.pull`."""
    number, state = objects.newest_commit(attempt) or (None, FolderState())
    if number != 0:
        found = "has no state from which it starts" if number is None else "has commits of another process"
        raise CommitDamaged(f"job {objects.job_id}, attempt {attempt}: the storage {found}")
    FolderPuller(folder, objects, attempt).apply(state)
    return state
