"""DDP: how ranks start, form a process group that no other network can reach, and share state."""

import gc
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from pipelines.base.cores import NUM_THREADS, num_cores
from pipelines.base.ranks import is_distributed, node_rank, num_nodes
from pipelines.training.launcher import (
    STORE_VARIABLE,
    kill_ranks,
    start_ranks,
    stop_watching,
    store_listener,
    wait_for_ranks,
)
from pipelines.training.lightning_internals import CustomizableDDPStrategy, SubprocessLauncher

LOOPBACKS = ("lo", "lo0")


def share_cores(num_processes: int) -> None:
    """Let this process compute with its share of the cores that it may use, unless the environment says otherwise.

    Torch itself knows the affinity, but no quota: in a container with 2 of 64 cores it would start 64 threads.
    """
    if NUM_THREADS not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, num_cores() // num_processes)))


class LocalLauncher(SubprocessLauncher):
    """Starts the ranks of this node by `pipelines.training.launcher`, and divides its CPU cores among them.

    Lightning's own launcher kills rank 0 as soon as another rank ends with an error, so that the error is not reported.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        start_ranks(self.num_processes)
        share_cores(self.num_processes)
        return function(*args, **kwargs)

    def kill(self, signum: Any) -> None:
        kill_ranks()


class Nodes(LightningEnvironment):
    """Lightning's view of the processes of this run, whatever other launchers have left in the environment."""

    def node_rank(self) -> int:
        return node_rank()


class LocalDDPStrategy(CustomizableDDPStrategy):
    """DDP whose ranks form the process group through a file on one node, and through a TCP store on several.

    The TCP store of Lightning's `DDPStrategy` listens on every interface, whatever MASTER_ADDR says. The one of this
    strategy listens on the address of the first node only.

    Parameters are bit-equal on all ranks. Buffers (BatchNorm's running statistics) are updated by each rank from its
    own images, and DDP replaces them by those of rank 0 before each forward pass of a training step. Checkpoints
    contain the buffers of rank 0, and all ranks evaluate with them (`share_buffers`).
    """

    def rewrap(self) -> None:
        """Wrap the module again, so that DDP reduces the gradients of all parameters that are trainable now.

        All ranks must call this, between two steps. DDP registers the trainable parameters when it wraps the module;
        gradients of parameters that become trainable later would silently stay different on each rank (Lightning
        #20340).
        """
        self.model = self.lightning_module
        # The old wrapper is part of reference cycles; free its buckets before the new ones are allocated.
        gc.collect()
        self.configure_ddp()

    def create_launcher(self) -> SubprocessLauncher:
        assert self.cluster_environment is not None
        return LocalLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def meet_ranks(self) -> dict[str, Any]:
        if num_nodes() == 1:
            bind_to_loopback()
            return {"init_method": f"file://{wait_for_ranks(self.global_rank, self.world_size)}"}
        wait_for_ranks(self.global_rank, self.world_size)
        host, _, port = os.environ[STORE_VARIABLE].rpartition(":")
        listener = store_listener()
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            host,
            int(port),
            self.world_size,
            is_master=listener is not None,
            wait_for_workers=False,
            master_listen_fd=listener,
        )
        return {"store": store}


def bind_to_loopback() -> None:
    """Make gloo and NCCL listen on the loopback interface only."""
    names = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in LOOPBACKS if name in names), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)


def share_buffers(module: nn.Module) -> None:
    """Copy the buffers of rank 0 to all ranks; all ranks must call this."""
    if is_distributed():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


def close_ranks() -> None:
    """Leave the process group and stop watching the other ranks: only rank 0 continues."""
    stop_watching()
    if is_distributed():
        torch.distributed.destroy_process_group()
