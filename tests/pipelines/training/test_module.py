"""The training module: losses, optimizer steps, and use with a plain trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from heads.base import BoxTarget
from pipelines.base.errors import ConfigError
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Batch
from pipelines.model import build_model
from pipelines.spec.load import validate_document
from pipelines.training.module import MultiTaskModule


class Gradients(Callback):
    """Records the gradients of the last optimizer step."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.last = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}


class ReportedTerms(Callback):
    """Records, for each batch of one image, the reported terms and the terms for which it has labels."""

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
        self.rows.append((set(pl_module.present_losses()), labeled))


def test_losses_without_labels_in_the_batch_are_not_reported(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    small_document["data"]["sources"]["shapes"]["batch_size"] = 1
    small_document["trainer"] |= {"max_epochs": 1}
    reported = ReportedTerms()
    train(small_document, tmp_path, reported)
    assert len({frozenset(labeled) for _, labeled in reported.rows}) > 2
    assert all(shown == labeled for shown, labeled in reported.rows)


def test_shorter_step_at_the_end_of_an_epoch_is_the_mean_of_its_own_batches(
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


PLAIN: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def module_and_data(document: dict[str, Any], demo_root: Path) -> tuple[MultiTaskModule, JobData]:
    job = validate_document(document)
    index, _ = build_index(job, demo_root)
    model = build_model(job.model, index.categories)
    module = MultiTaskModule(job.model, model, job.seed_everything)
    return module, JobData(job.data, job.model.tasks, index, job.seed_everything)


@pytest.mark.parametrize(
    ("limits", "num_steps"),
    [
        ({"max_epochs": 2}, 10),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4),
        ({"max_epochs": 2, "limit_train_batches": 0.4, "limit_val_batches": 1}, 4),
        ({"max_epochs": -1, "max_steps": 3}, 3),
        ({"max_epochs": 2, "max_steps": 7, "accumulate_grad_batches": 2}, 6),
    ],
)
def test_module_and_data_work_with_a_plain_trainer(
    limits: dict[str, Any], num_steps: int, small_document: dict[str, Any], demo_root: Path
) -> None:
    module, data = module_and_data(small_document, demo_root)
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = Trainer(**PLAIN, **limits)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == module.num_steps == num_steps
    assert not all(map(torch.equal, before, module.parameters()))


def test_module_works_with_loaders_passed_to_a_plain_trainer(small_document: dict[str, Any], demo_root: Path) -> None:
    module, data = module_and_data(small_document, demo_root)
    trainer = Trainer(**PLAIN, max_epochs=1)
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    assert trainer.global_step == module.num_steps == 5


def test_training_without_a_number_of_steps_is_rejected(small_document: dict[str, Any], demo_root: Path) -> None:
    module, data = module_and_data(small_document, demo_root)
    with pytest.raises(ConfigError, match=r"^trainer\.max_epochs: missing; the schedule needs the number of steps"):
        Trainer(**PLAIN, max_epochs=-1).fit(module, datamodule=data)
