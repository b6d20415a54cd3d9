"""Batches of a single image, on which BatchNorm cannot train where a map has one cell.

In training mode, BatchNorm normalizes each channel over all values of the batch. A single image gives one value per
channel where its map is 1x1: the deepest level of a small image, or a pooled branch of any image.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from backbones.meta_device import run_on_meta
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.planned_sample import fitted_size
from pipelines.data.loading.sample import padded_size
from pipelines.model import MultiTaskModel
from pipelines.spec.data import DataSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Size = tuple[int, int]


class _Levels(nn.Module):
    """Backbone and neck. Heads have no BatchNorm: they see the labeled images of a batch only, which may be few."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels: dict[str, Tensor] = self.backbone(images)
        return {**levels, **self.neck(levels)}


def avoid_single_images(model: MultiTaskModel, job: JobSpec, data: JobData, num_processes: int) -> None:
    """Join a last batch of one image with the batch before, if BatchNorm could not train on it.

    All other batches, and those of networks that train on single images, stay as they are.

    Args:
        model: the network; it is not changed.
        job: the document.
        data: its loaders; `min_batch` is set.
        num_processes: number of training processes.

    Raises:
        ConfigError: batches of one image remain.
    """
    if (job.trainer.sync_batchnorm and num_processes > 1) or data.train_sampler(num_processes).min_batch() > 1:
        return
    for size_hw in _smallest_sizes(data):
        if norms := single_value_norms(model, job.model, size_hw):
            data.min_batch = 2
            if data.train_sampler(num_processes).min_batch() < 2:
                larger = (2 * size_hw[0], 2 * size_hw[1])
                remedies = _remedies(norms, bool(single_value_norms(model, job.model, larger)), num_processes)
                raise ConfigError(list(_problems(job.data, data, norms, size_hw, remedies, num_processes)))
            return


def single_value_norms(model: MultiTaskModel, spec: ModelSpec, image_hw: Size) -> list[str]:
    """Return the names of the BatchNorms that train in some epoch and get one value per channel from one image.

    Args:
        model: the network; it is not changed.
        spec: from a validated document, where `unfreeze` is filled in.
        image_hw: size of the image, multiples of 32.
    """
    assert spec.unfreeze is not None
    never = frozenset.intersection(*(frozen_parts(spec, epoch) for epoch in spec.unfreeze))
    names = {module: name for name, module in model.named_modules()}
    found: list[str] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            found.append(names[module])

    handles = [
        module.register_forward_pre_hook(record)
        for part, module in model.modules_with_statistics()
        if isinstance(module, BATCH_NORMS) and part not in never
    ]
    was_training = model.training
    try:
        if handles:
            run_on_meta(_Levels(model), image_hw)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return list(dict.fromkeys(found))


def _smallest_sizes(data: JobData) -> list[Size]:
    """Return the padded sizes of training images, without those that are at least as large as another one.

    A map that is 1x1 for a size is 1x1 for all smaller sizes.
    """
    image_sizes = data.spec.train_image_sizes() or [data.spec.image_size]
    originals = {(record.height, record.width) for record in data.records("train")}
    sizes = {padded_size(fitted_size(hw, image_size)) for hw in originals for image_size in image_sizes}
    return sorted(
        hw for hw in sizes if not any(other != hw and other[0] <= hw[0] and other[1] <= hw[1] for other in sizes)
    )


def _remedies(norms: Sequence[str], is_pooled: bool, num_processes: int) -> str:
    remedies = []
    if not is_pooled:
        remedies.append("a larger data.image_size")
    if all(name.startswith("neck.") for name in norms):
        remedies.append("model.neck.norm: none")
    if num_processes > 1:
        remedies.append("trainer.sync_batchnorm: true (on GPUs)")
    remedies.append("a network without BatchNorm there")
    return ", ".join(remedies[:-1]) + " or " * (len(remedies) > 1) + remedies[-1]


def _problems(
    spec: DataSpec, data: JobData, norms: Sequence[str], size_hw: Size, remedies: str, num_processes: int
) -> Iterator[FieldProblem]:
    height, width = size_hw
    more = f" and {len(norms) - 1} more" if len(norms) > 1 else ""
    why = f"BatchNorm cannot train on a batch of one image of {height}x{width} pixels ({norms[0]}{more}: one value per "
    why += "channel)"
    processes = f" for {num_processes} processes" if num_processes > 1 else ""
    labeled = [record.source for record in data.records("train") if not record.labels.keys().isdisjoint(data.tasks)]
    for name in sorted(set(labeled)):
        field = f"data.sources.{name}"
        number = labeled.count(name)
        if spec.sources[name].images_per_batch == 1:
            yield FieldProblem(f"{field}.batch_size", f"got 1, but {why}; write 2 or more, or choose {remedies}")
        elif spec.mix == "interleave" and number <= num_processes:
            text = f"the training split has {number} labeled image(s){processes}, but {why}; add images, or choose"
            yield FieldProblem(field, f"{text} {remedies}")
    if (
        spec.mix == "concat"
        and len(labeled) <= num_processes
        and 1 not in {s.images_per_batch for s in spec.sources.values()}
    ):
        text = f"the training split has {len(labeled)} labeled image(s){processes}, but {why}; add images, or choose"
        yield FieldProblem("data.sources", f"{text} {remedies}")
