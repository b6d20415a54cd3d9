"""Warnings about valid documents that probably do not describe what the user intends.

They are printed when a job is checked and when a run starts.
"""

from collections.abc import Iterator

from backbones.catalog.lookup import resolve
from pipelines.spec.augment import operations_of
from pipelines.spec.job import JobSpec
from pipelines.spec.model import BackboneSpec, ModelSpec
from pipelines.spec.transfer import TOP_DOWN, frozen_parts
from pipelines.tasks.kinds import kind_of


def document_warnings(job: JobSpec) -> Iterator[str]:
    """Yield a warning for each part of the network that starts from random weights and never trains, or keeps others
    from training, for tasks that do not count, for sizes of images that do not fit each other, and for operations of
    `data.augment` without effect."""
    for name, task in sorted(job.model.tasks.items()):
        if task.weight == 0:
            yield f"model.tasks.{name}.weight: got 0; this task learns nothing, and its head keeps its initial values"
    yield from _parts_that_never_learn(job.model)
    yield from _small_images(job)
    yield from _combined_images(job)
    if (scales := job.data.multi_scale) is not None and not scales[0] <= _longer_side(job) <= scales[1]:
        yield (
            f"data.multi_scale: got {list(scales)}, but evaluation uses data.image_size: {job.data.image_size}, which "
            "the network is not trained for; extend the range"
        )


def _parts_that_never_learn(model: ModelSpec) -> Iterator[str]:
    if model.init_from is not None:
        return
    if model.backbone.weights == "none" and model.backbone.surgery.freeze_batchnorm:
        yield (
            "model.backbone.surgery.freeze_batchnorm: the norms keep their initial scales, and without weights the "
            "last norm of a residual block starts with scale 0: the block never learns; name weights in "
            "model.backbone.weights or model.init_from, or remove freeze_batchnorm"
        )
    assert model.unfreeze is not None
    never = frozenset.intersection(*(frozen_parts(model, epoch) for epoch in model.unfreeze))
    if model.backbone.weights != "none":
        if idle := sorted(never & _stages_with_new_layers(model.backbone)):
            yield (
                f"model.unfreeze: {', '.join(idle)} of the backbone never train but have layers that no published "
                "weights contain (added by surgery, or to upsample a single map): these layers keep their initial, "
                "untrained values; choose another model.transfer, or name a run that trained them in model.init_from"
            )
        never -= frozenset(TOP_DOWN)
    scaled = never & model.lr_scale.frozen_parts
    if waiting := sorted(never - scaled):
        yield (
            f"model.unfreeze: {', '.join(waiting)} of the backbone start from random weights and never train; name "
            "weights in model.backbone.weights or model.init_from, or choose another model.transfer"
        )
    if scaled:
        yield (
            f"model.lr_scale: with a factor of 0 {', '.join(sorted(scaled))} never train but start from random "
            "weights; name a run that trained them in model.init_from, or choose a factor above 0"
        )


def _stages_with_new_layers(backbone: BackboneSpec) -> frozenset[str]:
    """Return the stages in which the network has parameters that the library's network lacks."""
    row = resolve(backbone.network)
    changes = backbone.surgery.on_top_of(row.surgery)
    new = {"c3" if stage == "c2" else stage for block in changes.attention for stage in block.stages}
    is_upsampled = "upsampling" in row.takes  # its layers belong to c5, after the last block
    return frozenset(new | {*changes.deformable} | ({"c5"} if is_upsampled else set()))


def _small_images(job: JobSpec) -> Iterator[str]:
    design = job.model.backbone.design
    if design is not None and design.compound and _longer_side(job) < design.image_size_px:
        yield (
            f"data.image_size: got {job.data.image_size}, which is small for model.backbone.design.compound: "
            f"{design.compound:g}; it scales depths, widths and resolution together and is made for images of "
            f"{design.image_size_px} pixels"
        )


def _longer_side(job: JobSpec) -> int:
    size = job.data.image_size
    return size if isinstance(size, int) else max(size)


def _combined_images(job: JobSpec) -> Iterator[str]:
    combining = [operation for operation in operations_of(job.data.augment) if operation.COMBINES_IMAGES]
    if not combining:
        return
    if job.data.num_combining_epochs(job.trainer.max_epochs) == 0:
        yield (
            f"data.close_mosaic_epochs: got {job.data.close_mosaic_epochs}; with trainer.max_epochs: "
            f"{job.trainer.max_epochs} no epoch has {', '.join(operation.op for operation in combining)}; lower it"
        )
    tasks = job.model.tasks
    unlabeled = sorted(name for name, task in tasks.items() if not kind_of(task).labels_combined_images(task))
    without_boxes = all("boxes" not in kind_of(task).needed_labels(task) for task in tasks.values())
    for operation in combining:
        if operation.PASTES_OBJECTS and without_boxes:
            yield f"data.augment: {operation.op} has no effect, because no task has boxes; remove it"
        if not operation.PASTES_OBJECTS and unlabeled:
            yield (
                f"data.augment: the images of {operation.op} are not labeled for {', '.join(unlabeled)}; lower its p, "
                "or remove it"
            )
