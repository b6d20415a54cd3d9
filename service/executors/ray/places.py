"""The nodes of an attempt and its folder on each, from a file that the driver of several nodes has written."""

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import AttemptDir

NODES = "nodes"
IDS = "ids.json"


@dataclass(frozen=True)
class Place:
    """One node of an attempt.

    Attributes:
        rank: its number; 0 is the first, which decides everything.
        node_id: Ray's id of the node.
        folder: where its shim writes: for the first node, the attempt's folder.
    """

    rank: int
    node_id: str
    folder: Path

    @property
    def has_ended(self) -> bool:
        """True if its shim has written exit.json, after all processes of the attempt on this node."""
        return AttemptExit.read_if_valid(AttemptDir(self.folder).exit_json) is not None


def folder_of(folder: Path, rank: int) -> Path:
    """Return the folder of a node below an attempt's folder."""
    return folder if rank == 0 else folder / NODES / str(rank)


def write_places(folder: Path, node_ids: list[str]) -> None:
    """Record the nodes of an attempt, in the order of their ranks; raises OSError."""
    for rank in range(1, len(node_ids)):
        folder_of(folder, rank).mkdir(parents=True, exist_ok=True)
    write_atomic(folder / NODES / IDS, json.dumps(node_ids))


def read_places(folder: Path) -> list[Place]:
    """Return the nodes of an attempt on several nodes; empty for an attempt on one node, or before they are known."""
    try:
        node_ids = json.loads((folder / NODES / IDS).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Place(rank, node_id, folder_of(folder, rank)) for rank, node_id in enumerate(node_ids)]


def others_have_ended(folder: Path) -> bool:
    """Return True if nothing of an attempt runs on other nodes than the first."""
    return all(place.has_ended for place in read_places(folder)[1:])
