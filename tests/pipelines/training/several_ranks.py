"""Start trainings with several processes, and record each rank's state."""

import itertools
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.optim import Optimizer

from pipelines.base.errors import PyramidionError
from pipelines.base.ranks import LOCAL_RANK, NODE_FOLDER
from pipelines.data.dataset.index import build_index
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import validate_document
from pipelines.training.launcher import RENDEZVOUS_VARIABLE, supervised_ranks
from pipelines.training.stopping import StopRequest
from pipelines.training.strategy import close_ranks
from pipelines.training.trainer import quiet_lightning

Document = dict[str, Any]

_trainings = itertools.count()


class Watch(Callback):
    """Records how training changes a rank's network.

    Attributes:
        states: parameters and running statistics, before training and after each epoch.
        with_gradient: names of the parameters that have a gradient at the last optimizer step of each epoch.
        parts: the part of each of them (of statistics: that of the norm's weight).
        first_images: the images of the first batch.
        wrappers: the number of DDP wrappers created, and the number that still exist at the end.
    """

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.with_gradient: list[list[str]] = []
        self.parts: dict[str, str] = {}
        self.first_images = torch.zeros(0)
        self.wrappers = (0, 0)
        self._wrappers: list[weakref.ref[Any]] = []

    def kept(self) -> Document:
        """Return the attributes, to be saved."""
        return {name: getattr(self, name) for name in ("states", "with_gradient", "parts", "first_images", "wrappers")}

    @staticmethod
    def _state(module: LightningModule) -> dict[str, Tensor]:
        state = {name: parameter.detach().clone() for name, parameter in module.model.named_parameters()}
        return state | {name: tensor.clone() for name, tensor in module.model.named_buffers() if "running_" in name}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states.append(self._state(pl_module))
        norms = {name: name.rpartition(".")[0] + ".weight" if "running_" in name else name for name in self.states[0]}
        self.parts = {name: pl_module.model.part_of(parameter) for name, parameter in norms.items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if len(self.first_images) == 0:
            self.first_images = batch.images.clone()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._wrappers or self._wrappers[-1]() is not trainer.strategy.model:
            self._wrappers.append(weakref.ref(trainer.strategy.model))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.wrappers = len(self._wrappers), sum(wrapper() is not None for wrapper in self._wrappers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states.append(self._state(pl_module))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        del self.with_gradient[trainer.current_epoch :]
        self.with_gradient.append([name for name, p in pl_module.model.named_parameters() if p.grad is not None])


class TerminateSelf(Callback):
    """Requests a stop on a single rank when a batch starts; batch -1 is the last of the epoch."""

    def __init__(self, epoch: int, batch: int, rank: int = 0) -> None:
        self.epoch, self.batch, self.rank = epoch, batch, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        place = batch_idx - int(trainer.num_training_batches) if self.batch < 0 else batch_idx
        if (trainer.current_epoch, place, trainer.global_rank) == (self.epoch, self.batch, self.rank):
            os.kill(os.getpid(), signal.SIGTERM)


def train(
    rank: int,
    document: Document,
    root: Path,
    path: Path,
    *more: Callback,
    clock: Callable[[], float] | None = None,
) -> str:
    """Train as `fit` does, up to the end of `trainer.fit`, and return `done`, or the error as text.

    All ranks must call this, with the same arguments except `more` and `clock`.
    """
    if NODE_FOLDER not in os.environ:
        meeting = path.with_name(f"{path.name}-meeting-{next(_trainings)}")
        meeting.mkdir(parents=True, exist_ok=True)
        os.environ[RENDEZVOUS_VARIABLE] = str(meeting)
        os.environ[LOCAL_RANK] = str(rank)
    job = validate_document(document)
    inputs = Inputs(root, "none")
    index, report = build_index(job, inputs.data)
    run_dir = RunDir.of(path)
    quiet_lightning()
    stop = StopRequest()
    stop.install()
    seed_everything(job.seed_everything, workers=True)
    module, data, trainer = Attempt(job, inputs, index, report, run_dir, stop, clock).build()
    trainer.callbacks.extend(more)
    checkpoint = run_dir.last_checkpoint if run_dir.last_checkpoint.exists() else None
    try:
        with supervised_ranks():
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except PyramidionError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        close_ranks()
    return "done"
