"""A batch that the device's memory does not hold: what would fit is tried out and told."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pipelines.data.loading.sample import Batch
from pipelines.errors import OutOfMemory
from pipelines.model import MultiTaskModel
from pipelines.spec.data import DataSpec, PKSpec, SourceSpec

Precision = Callable[[], AbstractContextManager[object]]
"""What a training step is computed within: autocast, or nothing."""

OPTIMIZER_COPIES = 2
"""How many numbers an optimizer keeps for each parameter: AdamW's two, from the first step on."""


class MemoryAdvice(Callback):
    """Finds out, where a training step runs out of the device's memory, how many images of its batch fit.

    With several processes nothing is tried, as the losses of one wait for those of the others: half is proposed.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._batch: Batch | None = None
        self._advice: str | None = None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise OutOfMemory in place of torch's error where there is advice; goes around `trainer.fit`."""
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
        # What the failed step had computed hangs on the variables of its functions, which the error remembers.
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
    """Return how many of the batch's images can be trained on at once: half of them, a quarter, ...; 0 if not even 1.

    Weights, running statistics and `.grad` are what they were.

    Args:
        model: in training mode, on the device.
        batch: B images on the device, too many.
        precision: of a training step.
        ballast: how many more numbers a parameter the optimizer will hold.
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
        # torch's own error of memory is one; libraries that find none for their workspace raise others.
        return False
    finally:
        for buffer, value in before:
            buffer.copy_(value)
    return True


def _first(batch: Batch, size: int) -> Batch:
    targets = {task: of_task[:size] for task, of_task in batch.targets.items()}
    return replace(batch, images=batch.images[:size], infos=batch.infos[:size], targets=targets)


def advice(spec: DataSpec, batch: Batch, fitting: int, verb: str, accumulated: int) -> str:
    """Return what to change in the document so that it fits.

    Args:
        spec: `data` of the document.
        batch: the one that does not fit.
        fitting: how many of its images fit; 0 if not even one.
        verb: would or might.
        accumulated: `trainer.accumulate_grad_batches`.
    """
    height, width = batch.images.shape[-2:]
    told = f"a batch of {len(batch)} images of {height}x{width} pixels does not fit the device's memory"
    if fitting == 0:
        few = "not even one image does" if len(batch) > 1 else "it is one image"
        return f"{told}, {few}: lower data.image_size, set trainer.precision: bf16-mixed, or choose a smaller backbone"
    # Batches that mix all sources are as large as each source says.
    names = sorted(spec.sources if spec.mix == "concat" else {info.source for info in batch.infos})
    sizes = ", ".join(_setting(name, spec.sources[name], fitting) for name in names)
    windows = accumulated * math.ceil(max(spec.sources[name].batch_size for name in names) / fitting)
    others = ", and for other sources as many times fewer" if len(spec.sources) > len(names) else ""
    return (
        f"{told}; {fitting} {verb}: set {sizes}{others}, and trainer.accumulate_grad_batches: {windows} for the same "
        "effective batch"
    )


def _setting(name: str, source: SourceSpec, fitting: int) -> str:
    text = f"data.sources.{name}.batch_size: {fitting}"
    return f"{text} (with sampler.p * sampler.k the same)" if isinstance(source.sampler, PKSpec) else text
