"""Advice when a batch does not fit into memory; without a device, a hook raises torch's error for too many images."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.errors import OutOfMemory
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.sample import Batch, ImageInfo
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run_folder.layout import RunDir
from pipelines.spec.data import PKSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.load import validate_document
from pipelines.training.memory import advice
from pipelines.training.stopping import StopRequest
from pipelines.training.trainer import quiet_lightning

Document = dict[str, Any]
PK: Document = {"kind": "pk", "task": "scene", "p": 4, "k": 4}


def state_of(module: LightningModule) -> dict[str, torch.Tensor]:
    gradients = {f"{name}.grad": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: tensor.clone() for name, tensor in {**module.state_dict(), **gradients}.items()}


class SmallDevice(Callback):
    """Raises torch's error if the neck gets more than `num_images` images, from a given batch on."""

    def __init__(self, num_images: int, batch: int) -> None:
        self.num_images, self.batch = num_images, batch
        self.is_full = False
        self.tried: list[int] = []
        self.held: list[weakref.ref[torch.Tensor]] = []
        self.found_held = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            pl_module.model.neck.register_forward_pre_hook(self.take)

    def take(self, neck: torch.nn.Module, arguments: tuple[dict[str, torch.Tensor]]) -> None:
        c5 = arguments[0]["c5"]
        self.tried.append(len(c5))
        self.found_held += sum(held() is not None for held in self.held)
        if len(c5) > self.num_images:
            self.held.append(weakref.ref(c5))
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.before = state_of(pl_module)


class StateAfter(Callback):
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.state = state_of(pl_module)


@pytest.fixture
def run(demo_root: Path, tmp_path: Path) -> Any:
    def run(document: Document, device: Callback, after: Callback) -> None:
        job = validate_document(document)
        inputs = Inputs(demo_root, "none")
        index, report = build_index(job, inputs.data)
        quiet_lightning()
        attempt = Attempt(job, inputs, index, report, RunDir.of(tmp_path), StopRequest())
        module, data, trainer = attempt.build()
        trainer.callbacks[:] = [device, *trainer.callbacks, after]
        with attempt.memory.explaining():
            trainer.fit(module, datamodule=data)

    return run


@pytest.mark.parametrize(
    ("fitting", "batch", "tried", "message"),
    [
        (2, 0, [4, 2], "; 2 would: set data.sources.shapes.batch_size: 2, and trainer.accumulate_grad_batches: 4 for "),
        (1, 3, [4, 2, 1], "; 1 would: set data.sources.shapes.batch_size: 1, and trainer.accumulate_grad_batches: 8 "),
        (0, 1, [4, 2, 1], ", not even one image does: lower data.image_size, set trainer.precision: bf16-mixed, or "),
    ],
    ids=["half", "a_quarter_with_gradients_held", "none"],
)
def test_error_names_the_batch_size_that_fits_and_the_state_of_the_run_is_unchanged(
    fitting: int, batch: int, tried: list[int], message: str, small: Document, run: Any
) -> None:
    device, after = SmallDevice(fitting, batch), StateAfter()
    with pytest.raises(OutOfMemory) as caught:
        run(small, device, after)
    assert str(caught.value).startswith("a batch of 4 images of 96x96 pixels does not fit the device's memory")
    assert message in str(caught.value)
    assert (caught.value.exit_code, caught.value.failure_kind) == (1, "out_of_memory")
    assert device.tried == tried
    assert device.found_held == 0
    assert any(name.endswith(".grad") for name in after.state) == (batch % 2 == 1)
    assert after.state.keys() == device.before.keys()
    assert all(torch.equal(after.state[name], tensor) for name, tensor in device.before.items())


def test_error_outside_a_training_step_is_unchanged(small: Document, run: Any) -> None:
    class FullInValidation(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        run(small, FullInValidation(), StateAfter())


def test_advice_names_the_batch_sizes_of_the_sources_and_the_accumulation(tiny_job: JobSpec) -> None:
    spec = tiny_job.data
    one = spec.sources["a"].model_copy(update={"batch_size": 16})
    spec = spec.model_copy(update={"sources": {"a": one, "b": one}})
    infos = [ImageInfo(i, f"{i}.jpg", "a", (32, 64), (32, 64), (1.0, 1.0)) for i in range(12)]
    batch = Batch(torch.zeros(12, 3, 32, 64, dtype=torch.uint8), infos, {})
    assert advice(spec, batch, 6, "might", 2) == (
        "a batch of 12 images of 32x64 pixels does not fit the device's memory; 6 might: set "
        "data.sources.a.batch_size: 6, reduce the other sources by the same factor, and "
        "trainer.accumulate_grad_batches: 6 for the same effective batch"
    )
    several_sizes = advice(spec.model_copy(update={"multi_scale": (64, 96)}), batch, 0, "would", 1)
    assert "not even one image does: lower data.multi_scale, set" in several_sizes
    mixed = advice(spec.model_copy(update={"mix": "concat"}), batch, 6, "would", 1)
    assert "set data.sources.a.batch_size: 6, data.sources.b.batch_size: 6, and trainer.accumulate" in mixed
    drawn = spec.model_copy(update={"sources": {"a": one.model_copy(update={"sampler": PKSpec(**PK)})}})
    assert "data.sources.a.batch_size: 6 (with the same sampler.p * sampler.k), and" in advice(
        drawn, batch, 6, "would", 1
    )
