"""Warnings about valid documents that probably do not describe what the user intends.

They are printed when a job is checked and when a run starts.
"""

from collections.abc import Iterator

from backbones.catalog.lookup import resolve
from pipelines.spec.job import JobSpec
from pipelines.spec.model import BackboneSpec, ModelSpec
from pipelines.spec.transfer import TOP_DOWN, frozen_parts


def document_warnings(job: JobSpec) -> Iterator[str]:
    """Yield a warning for each part of the network that starts from random weights and never trains, or keeps others
    from training, for images that are small for a scaled design, and for tasks that do not count."""
    for name, task in sorted(job.model.tasks.items()):
        if task.weight == 0:
            yield f"model.tasks.{name}.weight: got 0; this task learns nothing, and its head keeps its initial values"
    yield from _parts_that_never_learn(job.model)
    yield from _small_images(job)


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
    design, size = job.model.backbone.design, job.data.image_size
    longer_side = size if isinstance(size, int) else max(size)
    if design is not None and design.compound and longer_side < design.image_size_px:
        yield (
            f"data.image_size: got {size}, which is small for model.backbone.design.compound: {design.compound:g}; "
            f"it scales depths, widths and resolution together and is made for images of {design.image_size_px} pixels"
        )
