"""Boxes and pixels of images that are combined from several ones stay together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.data.loading.planned_sample import PlannedSample, fitted_size
from pipelines.data.loading.target_boxes import MIN_KEPT_AREA, uncover
from pipelines.spec.augment import OperationSpec
from pipelines.spec.operations.combining import CopyPasteSpec, MosaicSpec
from pipelines.spec.operations.geometry import HorizontalFlipSpec
from tests.pipelines.data.loading.combined_images import COMBINING, applied, box_target, plain

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def drawn(size_hw: tuple[int, int], box: tuple[int, int, int, int], number: int, image_size: int = 96) -> PlannedSample:
    """Return a black image with one rectangle in color `number`, which is also its label."""
    image = torch.zeros(3, *size_hw, dtype=torch.uint8)
    image[:, box[1] : box[3], box[0] : box[2]] = torch.tensor(COLORS[number], dtype=torch.uint8)[:, None, None]
    return PlannedSample.start(image, {"t": box_target([box], [number])}, fitted_size(size_hw, image_size))


def intensity(image: Tensor, number: int) -> Tensor:
    """Return the share (H, W) of color `number` in each pixel, up to a factor."""
    red, green, blue = image.float()
    both = torch.minimum(red, green)
    return (red - both, green - both, blue, both)[number]


def edges(pixels: Tensor) -> Tensor:
    """Return the outline of the bright part of an image (H, W) as xyxy (4,), to a fraction of a pixel."""
    found: list[float] = []
    for profile in (pixels.amax(dim=0), pixels.amax(dim=1)):
        shares = (profile / profile.max()).tolist()
        for ordered in (shares, shares[::-1]):
            inside = next(position for position, share in enumerate(ordered) if share >= 0.5) + 1
            found.append(inside - sum(ordered[max(0, inside - 3) : inside]))
        found[-1] = len(shares) - found[-1]
    return torch.tensor([found[0], found[2], found[1], found[3]])


@st.composite
def scenes(draw: st.DrawFn) -> list[PlannedSample]:
    """Return images with one rectangle each; the first is not resized, so that no part of a pixel stays uncovered."""
    samples = []
    for number in range(4):
        height, width = draw(st.integers(60, 150)), draw(st.integers(60, 150))
        if number == 0:
            height, width = draw(st.sampled_from([(96, min(96, width)), (min(96, height), 96)]))
        left, top = draw(st.integers(0, width - 40)), draw(st.integers(0, height - 40))
        right, bottom = draw(st.integers(left + 30, width)), draw(st.integers(top + 30, height))
        samples.append(drawn((height, width), (left, top, right, bottom), number))
    return samples


@pytest.mark.parametrize("operation", COMBINING, ids=lambda operation: operation.op)
@given(samples=scenes(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_drawn_rectangles_and_their_boxes_move_together(
    operation: OperationSpec, samples: list[PlannedSample], seed: int
) -> None:
    out = applied([operation, HorizontalFlipSpec()], seed, *samples[: 4 if operation.op == "mosaic" else 2])
    assert out.image.shape[1:] == samples[0].canvas_hw
    target = out.targets["t"]
    assert isinstance(target, BoxTarget)

    def shown(number: int) -> Tensor:
        """Return the intensity of a color; red and green overlap in a mixup."""
        return out.image[number].float() if operation.op == "mixup" else intensity(out.image, number)

    for box, label in zip(target.boxes_xyxy, target.labels.tolist(), strict=True):
        if float((box[2:] - box[:2]).min()) > 6:
            torch.testing.assert_close(box, edges(shown(label)), atol=0.6, rtol=0)
    if operation.op == "mixup":
        assert all(float(shown(label).max()) >= 255 * MIN_KEPT_AREA - 1 for label in target.labels.tolist())


def test_parts_of_a_mosaic_fill_the_canvas_around_a_random_center() -> None:
    samples = []
    for number in range(4):
        image = torch.full((3, 50 + 30 * number, 140 - 20 * number), 60 * (number + 1), dtype=torch.uint8)
        samples.append(PlannedSample.start(image, {"t": box_target([], [])}, fitted_size(image.shape[1:], 64)))
    centers = []
    for seed in range(60):
        out = applied(MosaicSpec(p=1.0), seed, *samples)
        (image,) = out.image[:1]
        height, width = image.shape
        center_y, center_x = int((image[:, 0] == 60).sum()), int((image[0] == 60).sum())
        centers.append((center_y / height, center_x / width))
        for number, rows, columns in (
            (0, slice(center_y), slice(center_x)),
            (1, slice(center_y), slice(center_x, None)),
            (2, slice(center_y, None), slice(center_x)),
            (3, slice(center_y, None), slice(center_x, None)),
        ):
            assert (image[rows, columns] == 60 * (number + 1)).all()
    shares = torch.tensor(centers)
    assert shares.min() >= 0.2
    assert shares.max() <= 0.75
    assert shares.std(dim=0).min() > 0.1


def test_pasted_objects_have_their_size_and_what_their_box_shows_is_labeled() -> None:
    """Only the large object is drawn in some seeds; the small one inside it comes along with its identity."""
    own = plain(0, {"a": box_target([], [])}, (128, 128))
    boxes = [[10, 20, 50, 50], [20, 24, 32, 36], [45, 20, 75, 50]]
    other = plain(99, {"a": box_target(boxes, [0, 1, 2], [False, False, True])}, (128, 128))
    counts = set()
    for seed in range(30):
        out = applied(CopyPasteSpec(p=1.0, max_objects=1, range=(0.5, 0.5)), seed, own, other)
        target = out.targets["a"]
        assert isinstance(target, BoxTarget)
        labels = target.labels.tolist()
        counts.add(tuple(labels))
        area = int((out.image[0] == 99).sum())
        if 0 in labels:
            assert labels == [0, 1, 2], "the part of the crowd region is kept, though it is less than 30 %"
            assert area == 20 * 15
            torch.testing.assert_close(
                target.boxes_xyxy[1] - target.boxes_xyxy[0, [0, 1, 0, 1]], torch.tensor([5.0, 2.0, 11.0, 8.0])
            )
        else:
            assert area == 6 * 6
        assert torch.equal(target.identities, target.labels + 100)
    assert counts == {(0, 1, 2), (1,)}


def test_covered_objects_shrink_to_their_visible_part_or_are_dropped() -> None:
    """Two patches cover x < 10 and x >= 90 for y < 50, and a third one the center."""
    boxes = [
        [0, 0, 40, 40],  # its left quarter is covered
        [0, 0, 12, 50],  # less than 30 % are visible
        [0, 0, 12, 60],  # below the patch it is as wide as before
        [30, 60, 80, 90],  # covered in the middle only: its outline is visible
        [80, 10, 100, 40],  # its right half is covered
        [5, 10, 96, 40],  # covered at both ends
        [0, 0, 10, 40],  # completely covered crowd
        [0, 0, 12, 50],  # crowd with a visible part
    ]
    crowd = [False] * 6 + [True] * 2
    kind = ClassTarget(torch.tensor(1))
    targets: dict[str, Target] = {"a": box_target(boxes, list(range(8)), crowd), "kind": kind}
    patches = torch.tensor([[0, 0, 10, 50], [90, 0, 100, 50], [50, 70, 60, 80]])
    found = uncover(targets, patches)
    target = found["a"]
    assert isinstance(target, BoxTarget)
    assert found["kind"] is kind
    rows = {label: box.tolist() for label, box in zip(target.labels.tolist(), target.boxes_xyxy, strict=True)}
    assert rows == {
        0: [10, 0, 40, 40],
        2: [0, 0, 12, 60],
        3: [30, 60, 80, 90],
        4: [80, 10, 90, 40],
        5: [10, 10, 90, 40],
        7: [10, 0, 12, 50],
    }
    unchanged = uncover(targets, torch.zeros(0, 4))["a"]
    assert isinstance(unchanged, BoxTarget)
    assert torch.equal(unchanged.boxes_xyxy, box_target(boxes, list(range(8))).boxes_xyxy)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_visible_part_of_a_box_equals_the_uncovered_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, patches = (
        torch.from_numpy(np.sort(rng.integers(0, 30, (count, 2, 2)), axis=1).reshape(count, 4)) for count in (12, 4)
    )
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    covered = torch.zeros(30, 30, dtype=torch.bool)
    for left, top, right, bottom in patches.tolist():
        covered[top:bottom, left:right] = True
    expected = []
    for left, top, right, bottom in boxes.tolist():
        pixels = (~covered[top:bottom, left:right]).nonzero()
        if len(pixels) >= MIN_KEPT_AREA * (right - left) * (bottom - top):
            low, high = pixels.amin(dim=0), pixels.amax(dim=0)
            expected.append([left + int(low[1]), top + int(low[0]), left + int(high[1]) + 1, top + int(high[0]) + 1])
    found = uncover({"a": box_target(boxes.tolist(), [0] * len(boxes))}, patches)["a"]
    assert isinstance(found, BoxTarget)
    assert found.boxes_xyxy.tolist() == expected
