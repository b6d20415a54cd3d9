"""The training module's share of an optimizer step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from heads.base import BoxTarget
from pipelines.data.loading.sample import Batch
from pipelines.training.module import MultiTaskModule


class Gradients(Callback):
    """Keeps the gradients of the last optimizer step."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.last = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


class Told(Callback):
    """Keeps, of each batch of one image, the terms that are told and those that its labels are for."""

    def __init__(self) -> None:
        self.rows: list[tuple[set[str], set[str]]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, MultiTaskModule)
        labeled = set()
        (boxes,), (scene,), (identity,) = (batch.targets[task] for task in ("shapes", "scene", "identity"))
        if scene is not None:
            labeled.add("scene/bce")
        if boxes is not None:
            assert isinstance(boxes, BoxTarget)
            labeled.add("shapes/classification")
            labeled |= {"shapes/boxes", "shapes/centerness"} if len(boxes.boxes_xyxy) else set()
        if identity is not None and bool((identity.identities >= 0).any()):
            labeled.add("identity/proxy_anchor")
        self.rows.append((set(pl_module.told_losses()), labeled))


def test_losses_that_nothing_was_labeled_for_are_not_told(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    small_document["data"]["sources"]["shapes"]["batch_size"] = 1
    small_document["trainer"] |= {"max_epochs": 1}
    told = Told()
    train(small_document, tmp_path, told)
    assert len({frozenset(labeled) for _, labeled in told.rows}) > 2
    assert all(shown == labeled for shown, labeled in told.rows)


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
