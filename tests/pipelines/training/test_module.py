"""The training module's share of an optimiser step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Gradients(Callback):
    """Keeps the gradients of the last optimiser step."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.last = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


def test_short_window_at_the_end_of_an_epoch_is_the_mean_of_its_own_batches(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    small_document["data"]["sources"]["shapes"]["batch_size"] = 20
    found = []
    for window in (1, 4):
        small_document["trainer"] |= {"max_epochs": 1, "accumulate_grad_batches": window}
        gradients_of_one_batch = Gradients()
        train(small_document, tmp_path / str(window), gradients_of_one_batch)
        found.append(gradients_of_one_batch.last)
    torch.testing.assert_close(*found, rtol=0, atol=0)
