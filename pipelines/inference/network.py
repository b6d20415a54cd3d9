"""Networks that predict: what a predictor needs of a network, and the network that torch computes."""

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from heads.base import Prediction
from pipelines.model import MultiTaskModel

Precision = Literal["float32", "bfloat16"]


class Network(Protocol):
    """A network in some runtime."""

    def predict(
        self, images: Tensor, image_sizes_hw: Sequence[tuple[int, int]], tasks: Collection[str] | None = None
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task, on the CPU or another device.

        Args:
            images: (B, 3, H, W) uint8 on the CPU, H and W multiples of 32.
            image_sizes_hw: sizes before padding.
            tasks: names of the tasks to predict; all by default.
        """


class TorchNetwork:
    """A model that torch computes.

    Args:
        model: is moved to the device, and put in eval mode.
        device: `auto` is a GPU where torch sees one.
        precision: `bfloat16` computes under autocast.
    """

    def __init__(self, model: MultiTaskModel, device: str = "auto", precision: Precision = "float32") -> None:
        self.device = torch.device(_best_device() if device == "auto" else device)
        self.model, self.precision = model.to(self.device).eval(), precision

    def predict(
        self, images: Tensor, image_sizes_hw: Sequence[tuple[int, int]], tasks: Collection[str] | None = None
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task; see `Network.predict`."""
        is_bf16 = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
            return self.model.predict(images.to(self.device), image_sizes_hw, tasks=tasks)


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
