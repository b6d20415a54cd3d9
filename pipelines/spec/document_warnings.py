"""What a document may say and hardly means: told as warnings when a run is checked and when it begins."""

from collections.abc import Iterator

from backbones.catalog.lookup import resolve
from pipelines.spec.job import JobSpec
from pipelines.spec.model import BackboneSpec, ModelSpec
from pipelines.spec.transfer import TOP_DOWN, frozen_parts


def document_warnings(job: JobSpec) -> Iterator[str]:
    """Say what is doubted: parts that begin at random and never train, or hold others back, and images that are small
    for a design that was scaled up."""
    yield from _parts_that_never_learn(job.model)
    yield from _small_images(job)


def _parts_that_never_learn(model: ModelSpec) -> Iterator[str]:
    if model.init_from is not None:
        return
    if model.backbone.weights == "none" and model.backbone.surgery.freeze_batchnorm:
        yield (
            "model.backbone.surgery.freeze_batchnorm: the norms keep the scales that they begin with, and at random a "
            "residual block's last is 0: what it scales never learns; name weights in model.backbone.weights or "
            "model.init_from, or leave it out"
        )
    assert model.unfreeze is not None
    never = frozenset.intersection(*(frozen_parts(model, epoch) for epoch in model.unfreeze))
    if model.backbone.weights != "none":
        if idle := sorted(never & _stages_with_new_layers(model.backbone)):
            yield (
                f"model.unfreeze: {', '.join(idle)} of the backbone never train, and have layers that no published "
                "weights hold (of surgery, or the upsampling of a single map): they stay as they begin, which is at "
                "random or idle; choose another model.transfer, or name a run that trained them in model.init_from"
            )
        never -= frozenset(TOP_DOWN)
    scaled = never & model.lr_scale.frozen_parts
    if waiting := sorted(never - scaled):
        yield (
            f"model.unfreeze: {', '.join(waiting)} of the backbone never train, and begin at random; name weights in "
            "model.backbone.weights or model.init_from, or choose another model.transfer"
        )
    if scaled:
        yield (
            f"model.lr_scale: with a factor of 0 {', '.join(sorted(scaled))} never train, and begin at random; name a "
            "run that trained them in model.init_from, or leave the factor above 0"
        )


def _stages_with_new_layers(backbone: BackboneSpec) -> frozenset[str]:
    """Return the stages in which the network has parameters that its library's has not."""
    row = resolve(backbone.network)
    changes = backbone.surgery.on_top_of(row.surgery)
    new = {"c3" if stage == "c2" else stage for block in changes.attention for stage in block.stages}
    is_upsampled = "upsampling" in row.takes  # by layers that belong to c5, behind the last block
    return frozenset(new | {*changes.deformable} | ({"c5"} if is_upsampled else set()))


def _small_images(job: JobSpec) -> Iterator[str]:
    design, size = job.model.backbone.design, job.data.image_size
    longer_side = size if isinstance(size, int) else max(size)
    if design is not None and design.compound and longer_side < design.image_size_px:
        yield (
            f"data.image_size: got {size}; depths, widths and resolution are scaled together, and "
            f"model.backbone.design.compound: {design.compound:g} goes with images of {design.image_size_px} pixels"
        )
