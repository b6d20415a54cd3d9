"""Two nodes with one process each train like one node with two, and a run may resume on another number of nodes.

Two processes are forked once and run all scenarios; each plays the first process of a node. The launchers of the nodes
have tests of their own.
"""

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.process_folder import ProcessFolder
from pipelines.base.ranks import LOCAL_RANK, NODE_FOLDER, NODE_RANK, NUM_NODES
from pipelines.nodes.folder import NodeFolder
from pipelines.nodes.settings import ADDRESS_VARIABLE
from pipelines.preflight import Inputs
from pipelines.run.fit import fit
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.spec.load import resolved, validate_document
from pipelines.training.launcher import RENDEZVOUS_VARIABLE
from tests.pipelines.run.interruption import differences
from tests.pipelines.training.several_ranks import TerminateSelf, train
from tests.pipelines.training.two_ranks import Recorder, outcome_of
from tests.ranks import run_ranks
from tests.service.waiting import wait_until

Document = dict[str, Any]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

FOLDERS = "whole", "stopped"
"""The runs on two nodes."""


class Drawn(Callback):
    """Records the names of the images of each epoch."""

    def __init__(self) -> None:
        self.images: dict[int, list[str]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.images.setdefault(trainer.current_epoch, []).extend(info.file_name for info in batch.infos)


@contextmanager
def as_node(rank: int, folder: str) -> Iterator[None]:
    """Let this process be the first one of a node, as its launcher starts it; the nodes share a folder here."""
    before, node = dict(os.environ), NodeFolder(Path(folder))
    for name in (LOCAL_RANK, RENDEZVOUS_VARIABLE, RUN_DIR_VARIABLE):
        os.environ.pop(name, None)
    os.environ |= {NODE_FOLDER: folder, NODE_RANK: str(rank), NUM_NODES: "2", ADDRESS_VARIABLE: "127.0.0.1:0"}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    node.mark("all-here")
    if rank > 0:
        wait_until(lambda: node.order() is not None, "the order of node 0")
        os.environ |= node.order() or {}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def document_of(small: Document, num_nodes: int, devices: int) -> Document:
    """Return a job that unfreezes stages, with two tasks of small images."""
    document = copy.deepcopy(small)
    document["trainer"] |= {"num_nodes": num_nodes, "devices": devices, "max_epochs": 3, "check_val_every_n_epoch": 2}
    document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "unfreeze": {0: "none", 1: ["c5"], 2: "all"},
    }
    document["data"] |= {"image_size": 64}
    document["data"]["sources"]["shapes"]["batch_size"] = 2
    return document


def run_rank(rank: int, num_ranks: int, folder: Path, root: Path, small: Document, nodes: dict[str, str]) -> None:
    """Run all scenarios of one process, and save what happened."""
    torch.set_num_threads(1)
    outcomes: Document = {}

    def whole(document: Document, name: str) -> str:
        job = validate_document(document)
        return outcome_of(lambda: fit(job, resolved(job), Inputs(root, "none"), RunDir.of(folder / name)))

    (folder / "meeting").mkdir(exist_ok=True)
    os.environ |= {LOCAL_RANK: str(rank), RENDEZVOUS_VARIABLE: str(folder / "meeting")}
    outcomes["one node"] = whole(document_of(small, 1, num_ranks), "one")
    two_nodes = document_of(small, num_ranks, 1)
    with as_node(rank, nodes["whole"]):
        outcomes["two nodes"] = whole(two_nodes, "two")
    drawn, recorder = Drawn(), Recorder()
    with as_node(rank, nodes["stopped"]):
        stop = TerminateSelf(1, 2, rank=1)
        outcomes["stopped"] = train(rank, two_nodes, root, folder / "moved", stop, drawn, recorder)
    outcomes |= {"images": drawn.images, "listening": sorted(recorder.listening)}
    if rank == 0:
        drawn = Drawn()
        outcomes["resumed"] = train(0, document_of(small, 1, 1), root, folder / "moved", drawn)
        outcomes["images of one process"] = drawn.images
    torch.save(outcomes, folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def folder(small: Document, demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder in which both processes ran all scenarios."""
    path = tmp_path_factory.mktemp("nodes")
    held = {name: ProcessFolder() for name in FOLDERS}
    run_ranks(run_rank, 2, 2, path, demo_root, small, {name: str(one.path) for name, one in held.items()})
    yield path
    for one in held.values():
        one.remove()


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Document]:
    """Return the recorded outcomes of each process."""
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_nodes_train_and_score_exactly_like_one_node_with_as_many_processes(
    ranks: list[Document], folder: Path
) -> None:
    assert [(rank["one node"], rank["two nodes"]) for rank in ranks] == [("done", "done")] * 2
    one, two = (torch.load(RunDir.of(folder / run).last_checkpoint, weights_only=True) for run in ("one", "two"))
    for content in (one, two):
        del content["callbacks"]["Progress"]  # depends on the time
    assert differences(one, two) == []
    results = [json.loads(RunDir.of(folder / run).result.read_text()) for run in ("one", "two")]
    assert results[0]["tasks"] == results[1]["tasks"]
    assert results[0]["val"] == results[1]["val"]


def test_only_the_first_process_of_the_first_node_writes(folder: Path) -> None:
    assert [path.name for path in (folder / "two" / "attempts").iterdir()] == ["1"]
    events = [json.loads(line) for line in RunDir.of(folder / "two").events.read_text().splitlines()]
    steps = [event["step"] for event in events if event["kind"] == "progress"]
    assert len(steps) > 0
    assert len(steps) == len(set(steps))


def test_processes_of_nodes_listen_only_on_the_address_of_their_node(ranks: list[Document]) -> None:
    assert [rank["listening"] for rank in ranks] == [["127.0.0.1"], ["127.0.0.1"]]


def test_run_of_two_nodes_continues_its_epoch_on_one(ranks: list[Document], folder: Path) -> None:
    assert [rank["stopped"][:29] for rank in ranks] == ["Stopped: stopped in epoch 2 o"] * 2
    assert ranks[0]["resumed"] == "done"
    drawn = [name for rank in ranks for name in rank["images"][1]]
    remaining = ranks[0]["images of one process"]
    all_images = set(remaining[2])
    assert set(drawn).isdisjoint(remaining[1])
    assert {*drawn, *remaining[1]} == all_images
    content = torch.load(RunDir.of(folder / "moved").last_checkpoint, weights_only=True)
    _, _, last_step = content["callbacks"]["RankChanges"]["decay"]
    assert last_step == content["global_step"] - 1
    warnings = [line for line in RunDir.of(folder / "moved").events.read_text().splitlines() if '"warning"' in line]
    assert sum("this attempt has 1 process(es) instead of 2: " in line for line in warnings) == 1
