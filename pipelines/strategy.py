"""What touches DDP: how the ranks of one host meet, without a port that others could reach."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed
from lightning.pytorch.strategies import DDPStrategy

RENDEZVOUS = "PYRAMIDION_RENDEZVOUS"


def prepare_rendezvous() -> None:
    """Name a file for the ranks to meet at, and bind gloo to the loopback; children inherit both by environment."""
    if RENDEZVOUS not in os.environ:
        os.environ[RENDEZVOUS] = str(Path(tempfile.mkdtemp(prefix="pyramidion-")) / "rendezvous")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


class LocalDDPStrategy(DDPStrategy):
    """DDP on one host whose ranks meet through a file.

    `DDPStrategy`'s own TCP store listens on every interface, whatever MASTER_ADDR says.
    """

    def setup_distributed(self) -> None:
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        if torch.distributed.is_initialized():
            return
        options: dict[str, Any] = {}
        if self.root_device.type == "cuda":
            options["device_id"] = self.root_device
        torch.distributed.init_process_group(
            self._process_group_backend,
            init_method=f"file://{os.environ[RENDEZVOUS]}",
            rank=self.global_rank,
            world_size=self.world_size,
            timeout=self._timeout or timedelta(minutes=30),
            **options,
        )
