"""All uses of names that Lightning (2.6) keeps private; the other modules use its public interface only.

To be checked at each upgrade of Lightning.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loops.evaluation_loop import RestartStage
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipelines.base.ranks import is_distributed

SubprocessLauncher = _SubprocessScriptLauncher
"""The launcher of strategies whose ranks are started as processes of the same command."""


class CustomizableDDPStrategy(DDPStrategy):
    """DDP whose launcher and rendezvous are chosen by a subclass."""

    def create_launcher(self) -> SubprocessLauncher:
        """Return the launcher that starts the ranks."""
        raise NotImplementedError

    def meet_ranks(self) -> dict[str, Any]:
        """Return where the ranks form the process group, as arguments of torch, when all of them can join it."""
        raise NotImplementedError

    def _configure_launcher(self) -> None:
        self._launcher = self.create_launcher()

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        if is_distributed():
            return
        options = self.meet_ranks()
        if self.root_device.type == "cuda":
            options["device_id"] = self.root_device
        torch.distributed.init_process_group(
            self._process_group_backend,
            rank=self.global_rank,
            world_size=self.world_size,
            timeout=self._timeout or timedelta(minutes=30),
            **options,
        )


class _NoSignals(_SignalConnector):
    """Installs no signal handlers."""

    def register_signal_handlers(self) -> None:
        self.received_sigterm = False


def disable_signal_handlers(trainer: Trainer) -> None:
    """Leave signals to `stopping.StopRequest`.

    Lightning's own handler broadcasts at any time, whatever the rank is doing, and then ends the loop at any place.
    """
    trainer._signal_connector = _NoSignals(trainer)


def restart_validation(trainer: Trainer) -> None:
    """Let a resumed epoch, all of its batches done, start with its validation, from the first batch.

    Lightning skips the validation of such an epoch unless the checkpoint was written inside one of its steps, and then
    skips as many of its batches as were done.
    """
    validation = trainer.fit_loop.epoch_loop.val_loop
    validation.batch_progress.reset()
    validation._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


def averaged_state(callback: WeightAveraging) -> dict[str, Tensor]:
    """Return the state dict of the averaged module of a callback that has started averaging."""
    average = callback._average_model
    assert isinstance(average, AveragedModel)
    return dict(average.module.state_dict())


def batches_done(checkpoint: Mapping[str, Any]) -> int:
    """Return how many batches of its epoch a process had done when a checkpoint was written."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"])


def move_to_batch(checkpoint: Mapping[str, Any], done: int) -> None:
    """Change a checkpoint so that training continues in its epoch after `done` batches of each process."""
    fit_loop = checkpoint["loops"]["fit_loop"]
    current = fit_loop["epoch_loop.batch_progress"]["current"]
    moved = done - current["processed"]
    for name in ("ready", "started", "processed", "completed"):
        current[name] += moved
    for loader in fit_loop["state_dict"].get("combined_loader", []):
        loader["batches_done"] = done
