"""The scenarios that each of the two processes of test_two_ranks.py runs, and the record that it saves."""

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed

from pipelines.base.errors import PyramidionError
from pipelines.base.ranks import LOCAL_RANK
from pipelines.preflight import Inputs, Places
from pipelines.run.evaluate_run import score_run
from pipelines.run.fit import fit
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import resolved, validate_document
from pipelines.training.launcher import RENDEZVOUS_VARIABLE
from pipelines.training.stopping import StopRequest
from tests.pipelines.training.several_ranks import train
from tests.service.waiting import wait_until

Document = dict[str, Any]

NO_PLACES = Places((), ())


class Recorder(Callback):
    """Records weights, sockets and threads of a rank, and optionally requests a stop at a batch."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.stop_at = stop_at
        self.evaluated: list[dict[str, Tensor]] = []
        self.trained: dict[str, Tensor] = {}
        self.listening: set[str] = set()
        self.num_threads = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.num_threads = torch.get_num_threads()
        self.listening |= {c.laddr.ip for c in psutil.Process().net_connections() if c.status == "LISTEN"}

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.evaluated.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trained = {name: parameter.detach().clone() for name, parameter in pl_module.named_parameters()}


class StopInEvaluation(Callback):
    """Requests two stops: on rank 0 once, when the validation of epoch 0 starts, after the other rank has started it;
    and on rank 1 in the first batch of the gallery of epoch 1. Counts the evaluated batches of that gallery."""

    def __init__(self, folder: Path) -> None:
        self.has_started = folder / "rank 1 has started its validation"
        self.num_batches = 0
        self.is_first = True

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_first and trainer.global_rank == 1:
            self.has_started.touch()
        if self.is_first and trainer.global_rank == 0:
            wait_until(self.has_started.exists, "the validation of rank 1")
            os.kill(os.getpid(), signal.SIGTERM)
        self.is_first = False

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if (trainer.current_epoch, dataloader_idx) != (1, 1):
            return
        self.num_batches += 1
        if trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def meeting_at(place: Path) -> None:
    place.mkdir(exist_ok=True)
    os.environ[RENDEZVOUS_VARIABLE] = str(place)


def outcome_of(call: Callable[[], None]) -> str:
    try:
        call()
    except PyramidionError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def run_rank(rank: int, folder: Path, root: Path, document: Document) -> None:
    """Run all scenarios, and save their outcomes in `folder`/rank<rank>.pt."""
    torch.set_num_threads(1)
    os.environ[LOCAL_RANK] = str(rank)
    os.environ.pop("OMP_NUM_THREADS", None)
    outcomes: Document = {}
    distributed.init_process_group("gloo", init_method=f"file://{folder}/stop", rank=rank, world_size=2)
    stop = StopRequest()
    stop.is_set = rank == 0
    outcomes["stop of rank 0"] = outcome_of(lambda: stop.check("before evaluating"))
    distributed.destroy_process_group()
    stop.is_set = True
    outcomes["stop before ranks have met"] = outcome_of(lambda: stop.check("before training"))

    job = validate_document(document)

    def whole() -> None:
        fit(job, resolved(job), Inputs(root, "none"), RunDir.of(folder / "whole"))

    meeting_at(folder / "meeting-whole")
    outcomes["whole"] = outcome_of(whole)
    for name in ("validate", "test"):
        meeting_at(folder / f"meeting-{name}")
        score_run(name, folder / "whole", "val" if name == "validate" else "test", NO_PLACES)
    stopping = Recorder(stop_at=(1, 1) if rank == 0 else None)
    outcomes["stopped"] = train(rank, document, root, folder / "stopped", stopping)
    recorder = Recorder()
    outcomes["resumed"] = train(rank, document, root, folder / "stopped", recorder)
    outcomes |= {
        "evaluated": recorder.evaluated,
        "trained": recorder.trained,
        "listening": sorted(recorder.listening),
        "num_threads": recorder.num_threads,
    }
    in_evaluation = StopInEvaluation(folder)
    for name, callback in (("validation", in_evaluation), ("gallery", in_evaluation), ("end", Recorder())):
        outcomes[f"up to {name}"] = train(rank, document, root, folder / "halts", callback)
    outcomes["gallery batches"] = in_evaluation.num_batches
    broken = copy.deepcopy(document)
    broken["model"]["optimizer"] = {"name": "sgd", "lr": 1e30}
    broken["model"]["schedule"] = {}
    outcomes["broken"] = train(rank, broken, root, folder / "broken", Recorder())
    broken["data"]["sources"]["shapes"]["batch_size"] = 20
    outcomes["broken scores"] = train(rank, broken, root, folder / "broken-scores", Recorder())
    torch.save(outcomes, folder / f"rank{rank}.pt")
