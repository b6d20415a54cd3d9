"""Frozen stages have no gradient and stay bit-identical over an epoch of training and validation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pipelines.model import MultiTaskModel
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override

Document = dict[str, Any]


class Watch(Callback):
    """Records the weights at the start and the end, and which parameters have a gradient at any step."""

    def __init__(self) -> None:
        self.before: dict[str, Tensor] = {}
        self.after: dict[str, Tensor] = {}
        self.with_gradient: set[str] = set()
        self.stages: dict[str, str] = {}

    @staticmethod
    def _state(module: LightningModule) -> dict[str, Tensor]:
        return {name.removeprefix("model."): tensor.clone() for name, tensor in module.state_dict().items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = pl_module.model
        assert isinstance(model, MultiTaskModel)
        self.before = self._state(pl_module)
        self.stages = {name: model.part_of(name).partition(".")[0] for name, _ in model.named_parameters()}
        stage_of_module = {name.rpartition(".")[0]: stage for name, stage in self.stages.items()}
        for name, _ in model.named_buffers():
            self.stages[name] = stage_of_module.get(name.rpartition(".")[0], "none")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        for name, parameter in pl_module.model.named_parameters():
            if parameter.grad is not None:
                self.with_gradient.add(name)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.after = self._state(pl_module)


@pytest.mark.parametrize(
    ("unfreeze", "frozen"),
    [("none", {"c3", "c4", "c5"}), (["c5"], {"c3", "c4"}), ("all", set())],
    ids=["none", "c5", "all"],
)
def test_frozen_stages_have_no_gradient_and_bit_identical_weights_and_statistics(
    unfreeze: object, frozen: set[str], small: Document, train: Callable[..., RunDir], tmp_path: Path
) -> None:
    document = apply_override(apply_override(small, "model.unfreeze", {0: unfreeze}), "model.ema", None)
    watch = Watch()
    train(apply_override(document, "trainer.max_epochs", 1), tmp_path, watch)
    moved = {name for name, tensor in watch.after.items() if not tensor.equal(watch.before[name])}
    assert {watch.stages[name] for name in watch.with_gradient} == {"c3", "c4", "c5", "neck", "heads"} - frozen
    assert {watch.stages[name] for name in moved} == {"c3", "c4", "c5", "neck", "heads"} - frozen
    statistics = [name for name in watch.stages if "running_" in name]
    assert {watch.stages[name] for name in statistics} >= {"c3", "c4", "c5", "neck"}
    assert {name for name in statistics if name in moved} == {n for n in statistics if watch.stages[n] not in frozen}


def test_unfreezing_is_printed_and_recorded_as_an_event(
    small: Document, train: Callable[..., RunDir], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = apply_override(small, "model.unfreeze", {0: ["c3"], 1: ["c5", "c4"]})
    document = apply_override(document, "model.lr_scale", {"tasks": {"scene": 0.0}})
    watch = Watch()
    run_dir = train(document, tmp_path, watch)
    sizes = dict.fromkeys(["c3", "c4", "c5"], 0)
    for name, tensor in watch.before.items():
        stage = watch.stages.get(name)
        if stage in sizes and name.rpartition(".")[2] in ("weight", "bias"):
            sizes[stage] += tensor.numel()
    message = (
        f"epoch 2/2: c4 and c5 are trained from now on ({sizes['c4'] + sizes['c5']:,} parameters); "
        f"c3 is frozen from now on ({sizes['c3']:,} parameters)"
    )
    assert message in capsys.readouterr().err.splitlines()
    (event,) = [event for event in read_events(run_dir.events) if "trains" in event.data]
    assert (event.kind, event.epoch, event.step) == ("stage", 1, 3)
    assert (event.data["stage"], event.data["message"]) == ("training", message)
    assert event.data["trains"] == ["c4", "c5", "neck", "heads.identity", "heads.shapes"]


def test_sync_batchnorm_on_the_cpu_is_rejected_before_anything_is_written(
    command: Callable[..., int], job_yaml: Path, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("fit", "--config", job_yaml, "--data-root", demo_root.parent, "--trainer.sync_batchnorm=true")
    assert command(*words, "--run-dir", tmp_path / "run") == 78
    assert "trainer.sync_batchnorm: got true on the CPU, where torch has no SyncBatchNorm" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
