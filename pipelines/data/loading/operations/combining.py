"""Operations that combine several images of a source into one.

The result is labeled for those tasks that all of its images are labeled for, see `combine_targets`. An operation that
would leave an image without any label does not change it.

Legend: H W size in pixels. Boxes are xyxy in pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from heads.base import Target
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource, Span
from pipelines.data.loading.target_boxes import MIN_KEPT_AREA, move_boxes, uncover
from pipelines.spec.operations.combining import CopyPasteSpec, CutmixSpec, MixupSpec, MosaicSpec

Targets = dict[str, Target]


def show_mosaic(
    spec: MosaicSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Show the image and three others as the quarters of the canvas, which meet at a random point of its inner half.

    Each part is zoomed log-uniformly in `range` and cropped at a random place; it is zoomed more where it would not
    fill its quarter. Deviation from Bochkovskiy et al. 2020 (arXiv 2004.10934): there is no padding.
    """
    height, width = sample.canvas_hw
    if rng.random() >= spec.p or min(height, width) < 4:
        return sample
    center_y, center_x = (int(side * rng.uniform(0.25, 0.75)) for side in (height, width))
    rows, columns = ((0, center_y), (center_y, height)), ((0, center_x), (center_x, width))
    image = _black(sample.canvas_hw)
    parts, shares, own = [], [], sample
    for number, ((top, bottom), (left, right)) in enumerate((row, column) for row in rows for column in columns):
        part = sample if number == 0 else _other(source, rng)
        size_hw = (bottom - top, right - left)
        part = part.filling(size_hw, _zoom(spec.range, rng), place_y=rng.random(), place_x=rng.random()).render()
        own = part if number == 0 else own
        image[:, top:bottom, left:right] = part.image
        parts.append(move_boxes(part.targets, left, top))
        shares.append(size_hw[0] * size_hw[1] / (height * width))
    return _combined(sample, own, image, combine_targets(parts, shares, side_by_side=True))


def blend(spec: MixupSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Blend the image and another one, which is cropped where its aspect ratio differs.

    Objects of an image with a share of less than 30 % are dropped, as are those that keep less than 30 % of their area
    in a crop; crowd regions are kept.
    """
    if rng.random() >= spec.p:
        return sample
    share = float(rng.beta(spec.alpha, spec.alpha))
    own = sample.render()
    other = _filling_other(source, sample.canvas_hw, rng)
    image = (own.image.float() * share + other.image.float() * (1 - share)).add_(0.5).to(torch.uint8)
    parts = [own.targets if share >= MIN_KEPT_AREA else _without_objects(own.targets)]
    parts.append(other.targets if 1 - share >= MIN_KEPT_AREA else _without_objects(other.targets))
    return _combined(sample, own, image, combine_targets(parts, [share, 1 - share], side_by_side=False))


def replace_rectangle(
    spec: CutmixSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Replace a rectangle around a random point by a part of another image; it keeps the aspect ratio of the canvas.

    Objects that are covered by more than 70 % are dropped, see `uncover`. Deviation from Yun et al. 2019 (arXiv
    1905.04899): the part is cut at a random place instead of the same place.
    """
    if rng.random() >= spec.p:
        return sample
    height, width = sample.canvas_hw
    side = (1 - rng.beta(spec.alpha, spec.alpha)) ** 0.5
    (top, bottom), (left, right) = (_interval(length, side, rng) for length in (height, width))
    own = sample.render()
    other = _filling_other(source, (bottom - top, right - left), rng)
    image = own.image.clone()
    image[:, top:bottom, left:right] = other.image
    parts = [uncover(own.targets, torch.tensor([[left, top, right, bottom]])), move_boxes(other.targets, left, top)]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return _combined(sample, own, image, combine_targets(parts, [share, 1 - share], side_by_side=False))


def paste_objects(
    spec: CopyPasteSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Paste the boxes of random objects of another image, each zoomed log-uniformly in `range`, at random places.

    The other image must be labeled for all tasks with objects that the image is labeled for, and show no class that
    the image lacks, so that the result is as completely labeled as the image (`Target.accepts_objects_of`). A box
    includes what else it shows: parts of other objects follow the rule of crops. Objects that are covered by more than
    70 % are dropped, see `uncover`. Deviation from Ghiasi et al. 2021 (arXiv 2012.07177): boxes instead of masks.
    """
    if rng.random() >= spec.p:
        return sample
    other = _other(source, rng)
    if not all(target.accepts_objects_of(other.targets.get(task)) for task, target in sample.targets.items()):
        return sample
    other = replace(other, targets={task: other.targets[task] for task in sample.targets if task in other.targets})
    boxes = _objects(other.targets)
    order = rng.permutation(len(boxes))[: rng.integers(1, spec.max_objects + 1)]
    patches = [_patch(other, boxes[number], _zoom(spec.range, rng), sample.canvas_hw).render() for number in order]
    patches = [patch for patch in patches if len(_objects(patch.targets))]
    if not patches:
        return sample
    own = sample.render()
    image = own.image.clone()
    layers, places = [own.targets], []
    for patch in patches:
        (height, width), (canvas_height, canvas_width) = patch.canvas_hw, sample.canvas_hw
        top, left = int(rng.integers(canvas_height - height + 1)), int(rng.integers(canvas_width - width + 1))
        image[:, top : top + height, left : left + width] = patch.image
        layers.append(move_boxes(patch.targets, left, top))
        places.append([left, top, left + width, top + height])
    visible = [uncover(layer, torch.tensor(places[number:]).reshape(-1, 4)) for number, layer in enumerate(layers)]
    targets = visible[0]
    for layer in visible[1:]:
        targets = {t: target.with_objects_of(layer[t]) if t in layer else target for t, target in targets.items()}
    return _combined(sample, own, image, targets)


def combine_targets(parts: Sequence[Targets], shares: Sequence[float], *, side_by_side: bool) -> Targets:
    """Return the targets of a picture of several images: of the tasks that all of them are labeled for.

    Args:
        parts: the targets of each image, moved to its place.
        shares: the share of each image in the picture; they add up to 1.
        side_by_side: see `Target.combined`.
    """
    first, *others = parts
    combined = {
        task: target.combined([other[task] for other in others], shares, side_by_side=side_by_side)
        for task, target in first.items()
        if all(task in other for other in others)
    }
    return {task: target for task, target in combined.items() if target is not None}


def _combined(sample: PlannedSample, own: PlannedSample, image: Tensor, targets: Targets) -> PlannedSample:
    """Return the combination, with the scale of the own image in it; `sample` if no label is left."""
    if not targets:
        return sample
    return replace(PlannedSample.start(image, targets, sample.canvas_hw), scale_xy=own.scale_xy)


def _other(source: SampleSource, rng: np.random.Generator) -> PlannedSample:
    return source.load(int(rng.integers(len(source))))


def _filling_other(source: SampleSource, size_hw: tuple[int, int], rng: np.random.Generator) -> PlannedSample:
    return _other(source, rng).filling(size_hw, 1.0, place_y=rng.random(), place_x=rng.random()).render()


def _zoom(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _black(size_hw: tuple[int, int]) -> Tensor:
    """Return an image (3, H, W) uint8 in HWC memory, as decoded ones are."""
    return torch.zeros(*size_hw, 3, dtype=torch.uint8).permute(2, 0, 1)


def _interval(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Return an interval of a share of [0, length] around a random point, clipped, with at least one pixel."""
    extent, center = max(1, round(length * share)), int(rng.integers(length))
    begin = center - extent // 2
    return max(0, begin), min(length, begin + extent)


def _without_objects(targets: Targets) -> Targets:
    return {
        task: target if target.object_boxes_xyxy is None else target.with_objects(target.object_is_crowd)
        for task, target in targets.items()
    }


def _objects(targets: Targets) -> Tensor:
    """Return the different boxes (N, 4) of all tasks without crowd regions."""
    boxes = [torch.zeros(0, 4)]
    for target in targets.values():
        if target.object_boxes_xyxy is not None:
            boxes.append(target.object_boxes_xyxy[~target.object_is_crowd])
    different: Tensor = torch.unique(torch.cat(boxes), dim=0)
    return different


def _patch(sample: PlannedSample, box_xyxy: Tensor, zoom: float, limits_hw: tuple[int, int]) -> PlannedSample:
    """Return the part of a sample in a box, zoomed from the size that the canvas gives it, at most up to the limits."""
    image_hw = sample.image.shape[-2:]
    left, top = box_xyxy[:2].floor().int().tolist()
    right, bottom = box_xyxy[2:].ceil().int().tolist()
    extents_hw = (max(1, bottom - top), max(1, right - left))
    scales = [
        min(zoom * canvas / length, limit / extent)
        for canvas, length, limit, extent in zip(sample.canvas_hw, image_hw, limits_hw, extents_hw, strict=True)
    ]
    size_hw = tuple(max(1, round(extent * min(scales))) for extent in extents_hw)
    return replace(
        sample,
        canvas_hw=size_hw,
        y=Span(start=top, extent=extents_hw[0], size=size_hw[0]),
        x=Span(start=left, extent=extents_hw[1], size=size_hw[1]),
        is_zoomed=True,
    )
