"""What touches DDP: how the ranks of one host start and meet, without a port that others could reach."""

import gc
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import nn

from pipelines.ranks import is_distributed, world_size
from pipelines.training.launcher import kill_ranks, meet, start_ranks, stop_watching

LOOPBACKS = ("lo", "lo0")


class LocalLauncher(_SubprocessScriptLauncher):
    """Starts the ranks by `pipelines.training.launcher`, which holds them, and shares the cores out.

    Lightning's own ends rank 0 with SIGKILL as soon as another rank ends with an error, so that nobody says why.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        start_ranks(self.num_processes)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, num_cores() // self.num_processes))
        return function(*args, **kwargs)

    def kill(self, signum: Any) -> None:
        kill_ranks()


class LocalDDPStrategy(DDPStrategy):
    """DDP on one host whose ranks meet through a file.

    `DDPStrategy`'s own TCP store listens on every interface, whatever MASTER_ADDR says.

    Parameters are bit-equal on all ranks. Of buffers (BatchNorm's running statistics) each rank makes its own from its
    own images, and DDP sets them to those of rank 0 before each forward pass of a training step; checkpoints hold
    those of rank 0, and so does every rank when it evaluates (`share_buffers`).
    """

    def rewrap(self) -> None:
        """Let DDP reduce the gradients of what is trainable now; all ranks must call this, between two steps.

        DDP takes note of that once, when it wraps: of what becomes trainable later each rank would keep its own
        gradients, and nothing would say so (Lightning #20340).
        """
        self.model = self.lightning_module
        # The old wrapper is in cycles; it goes before the new one takes as much memory for its buckets.
        gc.collect()
        self.configure_ddp()

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = LocalLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        if is_distributed():
            return
        bind_to_loopback()
        options: dict[str, Any] = {}
        if self.root_device.type == "cuda":
            options["device_id"] = self.root_device
        torch.distributed.init_process_group(
            self._process_group_backend,
            init_method=f"file://{meet(self.global_rank, self.world_size)}",
            rank=self.global_rank,
            world_size=self.world_size,
            timeout=self._timeout or timedelta(minutes=30),
            **options,
        )


def bind_to_loopback() -> None:
    """Let gloo and NCCL listen on the loopback alone."""
    names = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in LOOPBACKS if name in names), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def any_rank(flag: bool) -> bool:
    """Return, on all ranks alike, whether any of them says so; all must call this."""
    flags: list[bool | None] = [None] * world_size()
    torch.distributed.all_gather_object(flags, flag)
    return any(flags)


def share_buffers(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0; all must call this."""
    if is_distributed():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def close_ranks() -> None:
    """Let go of the other ranks: what follows is rank 0's alone."""
    stop_watching()
    if is_distributed():
        torch.distributed.destroy_process_group()
