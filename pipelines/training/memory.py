"""Advice after the device ran out of memory: the batch size that fits is found by trying."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pipelines.base.errors import OutOfMemory
from pipelines.data.loading.sample import Batch
from pipelines.model import MultiTaskModel
from pipelines.spec.data import DataSpec, PKSpec, SourceSpec

Precision = Callable[[], AbstractContextManager[object]]
"""Returns the context of a training step, such as autocast."""

OPTIMIZER_COPIES = 2
"""Numbers that an optimizer keeps per parameter, from its first step: two for AdamW."""


class MemoryAdvice(Callback):
    """Finds the number of images that fit after a training step ran out of the device's memory.

    With several processes nothing is tried, since the losses of one process need those of the others; half of the batch
    is proposed.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._batch: Batch | None = None
        self._advice: str | None = None

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise OutOfMemory with the advice, if there is any, instead of torch's error; a context for `trainer.fit`."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            if self._advice is None:
                raise
            raise OutOfMemory(self._advice) from error

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self._batch = batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self._batch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        batch, self._batch = self._batch, None
        if not isinstance(exception, torch.OutOfMemoryError) or batch is None:
            return
        # The traceback refers to the variables of the failed step's functions, and so keeps its tensors in memory.
        exception.__traceback__ = None
        if trainer.world_size > 1:
            fitting, verb = len(batch) // 2, "might"
        else:
            model = pl_module.model
            assert isinstance(model, MultiTaskModel)
            ballast = 0 if any(optimizer.state for optimizer in trainer.optimizers) else OPTIMIZER_COPIES
            fitting = largest_that_fits(model, batch, trainer.precision_plugin.train_step_context, ballast)
            verb = "would"
        self._advice = advice(self.spec, batch, fitting, verb, trainer.accumulate_grad_batches)


def largest_that_fits(model: MultiTaskModel, batch: Batch, precision: Precision, ballast: int = 0) -> int:
    """Return the largest of B/2, B/4, ... images of the batch that fit into memory; 0 if not even one fits.

    Weights, running statistics and `.grad` are not changed.

    Args:
        model: in training mode, on the device.
        batch: B images on the device that do not fit.
        precision: of a training step.
        ballast: numbers per parameter that the optimizer will allocate later.
    """
    size = len(batch) // 2
    while size > 0 and not _fits(model, _first(batch, size), precision, ballast):
        size //= 2
    return size


def _fits(model: MultiTaskModel, batch: Batch, precision: Precision, ballast: int) -> bool:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    held: list[Tensor] = []
    try:
        held += [torch.empty_like(parameter) for parameter in parameters for _ in range(ballast)]
        with torch.enable_grad(), precision():
            losses = model.loss(batch.images, batch.targets, batch.image_sizes_hw)
            total = torch.stack([term.float() for terms in losses.values() for term, _ in terms.values()]).sum()
        torch.autograd.grad(total, parameters, allow_unused=True)
    except RuntimeError:
        # Includes torch's OutOfMemoryError; libraries that cannot allocate their workspace raise others.
        return False
    finally:
        for buffer, value in before:
            buffer.copy_(value)
    return True


def _first(batch: Batch, size: int) -> Batch:
    targets = {task: of_task[:size] for task, of_task in batch.targets.items()}
    return replace(batch, images=batch.images[:size], infos=batch.infos[:size], targets=targets)


def advice(spec: DataSpec, batch: Batch, fitting: int, verb: str, accumulated: int) -> str:
    """Return a message that says what to change in the document.

    Args:
        spec: `data` of the document.
        batch: the batch that does not fit.
        fitting: number of its images that fit; 0 if not even one does.
        verb: would or might (fit).
        accumulated: `trainer.accumulate_grad_batches`.
    """
    height, width = batch.images.shape[-2:]
    problem = f"a batch of {len(batch)} images of {height}x{width} pixels does not fit the device's memory"
    if fitting == 0:
        few = "not even one image does" if len(batch) > 1 else "it is one image"
        size = "data.image_size" if spec.multi_scale is None else "data.multi_scale"
        return f"{problem}, {few}: lower {size}, set trainer.precision: bf16-mixed, or choose a smaller backbone"
    # A batch that mixes all sources contains each source's batch size.
    names = sorted(spec.sources if spec.mix == "concat" else {info.source for info in batch.infos})
    sizes = ", ".join(_setting(name, spec.sources[name], fitting) for name in names)
    windows = accumulated * math.ceil(max(spec.sources[name].images_per_batch for name in names) / fitting)
    others = ", reduce the other sources by the same factor" if len(spec.sources) > len(names) else ""
    return (
        f"{problem}; {fitting} {verb}: set {sizes}{others}, and trainer.accumulate_grad_batches: {windows} for the "
        "same effective batch"
    )


def _setting(name: str, source: SourceSpec, fitting: int) -> str:
    text = f"data.sources.{name}.batch_size: {fitting}"
    return f"{text} (with the same sampler.p * sampler.k)" if isinstance(source.sampler, PKSpec) else text
