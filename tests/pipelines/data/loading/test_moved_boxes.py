"""Drawn shapes and their boxes move together under all geometric operations and their compositions."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heads.base import BoxTarget, Target
from pipelines.data.loading.affine import Affine
from pipelines.data.loading.operations.rand_augment import MOVES
from pipelines.data.loading.planned_sample import ImageSize, PlannedSample
from pipelines.data.loading.transforms import TrainTransform
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.geometry import AffineSpec, HorizontalFlipSpec, ScaleJitterSpec, VerticalFlipSpec

TOLERANCE_PX = 0.6
ROUND_TOLERANCE_PX = 0.75
"""Round objects are drawn pixel by pixel, so their rims are less exact than the edges of rectangles."""
EDGE, TIP = 0.5, 0.3
"""Share of red at the border of a shape: of a straight edge, and of a corner that points to a side of the image."""

Box = tuple[int, int, int, int]
Shape = Literal["rectangle", "ellipse"]


def drawn(height: int, width: int, box: Box, shape: Shape = "rectangle") -> Tensor:
    """Return a red shape that fills its box, on blue, in HWC memory like decoded images."""
    y, x = np.mgrid[: 4 * height, : 4 * width] / 4 + 0.125
    inside = (box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])
    if shape == "ellipse":
        center_x, center_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        inside = (2 * (x - center_x) / (box[2] - box[0])) ** 2 + (2 * (y - center_y) / (box[3] - box[1])) ** 2 <= 1
    red = torch.from_numpy(255 * inside.reshape(height, 4, width, 4).mean(axis=(1, 3))).to(torch.uint8)
    return torch.stack([red, torch.zeros_like(red), 255 - red], dim=2).permute(2, 0, 1)


def target_of(*boxes: Box, is_crowd: bool = False) -> dict[str, Target]:
    count = len(boxes)
    return {
        "t": BoxTarget(
            torch.tensor(boxes).reshape(-1, 4).float(),
            torch.arange(count),
            torch.full((count,), is_crowd),
            torch.arange(count),
        )
    }


def boxes_of(targets: dict[str, Target]) -> Tensor:
    target = targets["t"]
    assert isinstance(target, BoxTarget)
    return target.boxes_xyxy


def start_of_red(profile: Tensor, level: float) -> tuple[float, float]:
    """Return the lowest and highest position where the share of red in a row of pixels first crosses a level.

    Pixel 0 covers [0, 1] and shows its center, so a shape that begins in its first half begins before the crossing.
    """
    first = int((profile >= level).nonzero()[0])
    if first == 0:
        return 0.0, 0.5
    position = first + 0.5 - float((profile[first] - level) / (profile[first] - profile[first - 1]))
    return position, position


def assert_box_matches_pixels(image: Tensor, box_xyxy: Tensor, tolerance_px: float = TOLERANCE_PX) -> None:
    """Each side of the box is where red begins: between the levels of a straight edge and a tip."""
    red = image[0].float() / 255
    height, width = red.shape
    for axis, size in ((0, width), (1, height)):
        profile = red.amax(dim=axis)
        start, end = float(box_xyxy[axis]), float(box_xyxy[axis + 2])
        for seen, side in ((profile, start), (profile.flip(0), size - end)):
            lowest, highest = start_of_red(seen, TIP)[0], start_of_red(seen, EDGE)[1]
            assert lowest - tolerance_px <= side <= highest + tolerance_px


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, int, Box]:
    height, width = draw(st.integers(120, 360)), draw(st.integers(120, 360))
    x1, y1 = draw(st.integers(0, width - 60)), draw(st.integers(0, height - 60))
    return height, width, (x1, y1, draw(st.integers(x1 + 50, width)), draw(st.integers(y1 + 50, height)))


IMAGE_SIZES: st.SearchStrategy[ImageSize] = st.one_of(
    st.integers(64, 160), st.tuples(st.integers(64, 160), st.integers(64, 160))
)
ZOOMS = st.sampled_from([(0.5, 0.9), (1.0, 1.6), (0.4, 1.6)]).map(lambda zoom: ScaleJitterSpec(range=zoom))
FLIPS = st.sampled_from([HorizontalFlipSpec(p=1.0), VerticalFlipSpec(p=1.0), HorizontalFlipSpec(p=0.5)])
AFFINES = st.builds(
    AffineSpec,
    p=st.just(1.0),
    degrees=st.sampled_from([0.0, 10.0, 45.0, 180.0]),
    shear=st.sampled_from([0.0, 15.0]),
    translate=st.sampled_from([0.0, 0.3]),
    scale=st.sampled_from([(1.0, 1.0), (0.6, 1.4)]),
    fill=st.sampled_from([(0, 0, 0), (0, 255, 0)]),
)


@st.composite
def compositions(draw: st.DrawFn) -> list[OperationSpec]:
    """Return operations of one plan: a turned box cannot be turned again without growth."""
    few = [draw(st.lists(kind, max_size=most)) for kind, most in ((ZOOMS, 1), (FLIPS, 2), (AFFINES, 2))]
    return draw(st.permutations([operation for kind in few for operation in kind]))


@given(picture=pictures(), image_size=IMAGE_SIZES, operations=compositions(), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_boxes_of_rectangles_match_the_pixels(
    picture: tuple[int, int, Box], image_size: ImageSize, operations: list[OperationSpec], seed: int
) -> None:
    height, width, box = picture
    out = TrainTransform(image_size, operations)(drawn(height, width, box), target_of(box), np.random.default_rng(seed))
    boxes = boxes_of(out.targets)
    if len(boxes) and (boxes[0, 2:] - boxes[0, :2]).min() > 8 and max(out.scale_xy) <= 1.5:
        assert_box_matches_pixels(out.image, boxes[0])


@given(picture=pictures(), degrees=st.integers(-180, 180), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_boxes_of_round_objects_match_the_pixels_by_the_rule_for_ellipses(
    picture: tuple[int, int, Box], degrees: int, seed: int
) -> None:
    height, width, box = picture
    spec = AffineSpec(p=1.0, degrees=abs(degrees), shear=15.0, scale=(0.4, 0.5), boxes="ellipse")
    image = drawn(height, width, box, "ellipse")
    out = TrainTransform(160, [spec])(image, target_of(box), np.random.default_rng(seed))
    assert_box_matches_pixels(out.image, boxes_of(out.targets)[0], ROUND_TOLERANCE_PX)


@pytest.mark.parametrize("move", range(len(MOVES)))
@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.6, 1.0])
def test_boxes_follow_the_moves_of_rand_augment(move: int, strength: float) -> None:
    box = (70, 60, 190, 130)
    matrix, shares = MOVES[move](strength)
    sample = PlannedSample.start(drawn(200, 260, box), target_of(box), (100, 130))
    moved = sample.mapped(Affine(matrix, shares * np.array([130, 100]))).render()
    assert_box_matches_pixels(moved.image, boxes_of(moved.targets)[0])


def test_known_rotation_gives_known_boxes() -> None:
    sample = PlannedSample.start(drawn(100, 100, (20, 40, 40, 80)), target_of((20, 40, 40, 80)), (100, 100))
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    right = sample.mapped(Affine(quarter, np.zeros(2))).render()
    torch.testing.assert_close(boxes_of(right.targets), torch.tensor([[20.0, 20.0, 60.0, 40.0]]))
    assert torch.equal(right.image, torch.rot90(sample.image, -1, (1, 2)))
    half = math.sqrt(0.5)
    diagonal = Affine(np.array([[half, -half], [half, half]]), np.zeros(2), box_rule="ellipse")
    centered = PlannedSample.start(drawn(100, 100, (30, 30, 70, 70)), target_of((30, 30, 70, 70)), (100, 100))
    ellipse = boxes_of(centered.mapped(diagonal).render().targets)
    torch.testing.assert_close(ellipse, torch.tensor([[30.0, 30.0, 70.0, 70.0]]))
    corners = boxes_of(centered.mapped(Affine(diagonal.matrix, np.zeros(2))).render().targets)
    torch.testing.assert_close(
        corners, torch.tensor([[50 - 40 * half, 50 - 40 * half, 50 + 40 * half, 50 + 40 * half]])
    )


@given(seed=st.integers(0, 2**32), flips=st.lists(st.sampled_from(["hflipped", "vflipped"]), max_size=3))
@settings(max_examples=30, deadline=None)
def test_flips_before_and_after_an_affine_map_keep_their_order(seed: int, flips: list[str]) -> None:
    rng = np.random.default_rng(seed)
    affine = Affine(np.eye(2) + rng.uniform(-0.3, 0.3, (2, 2)), rng.uniform(-9, 9, 2))
    sample = PlannedSample.start(drawn(80, 120, (20, 20, 60, 50)), target_of((20, 20, 60, 50)), (80, 120))
    planned, rendered = sample.mapped(affine), sample.mapped(affine).render()
    for flip in flips:
        planned, rendered = getattr(planned, flip)(), getattr(rendered, flip)()
    planned, rendered = planned.render(), rendered.render()
    torch.testing.assert_close(boxes_of(planned.targets), boxes_of(rendered.targets), atol=1e-3, rtol=0)
    assert (planned.image.int() - rendered.image.int()).abs().float().mean() < 1


def test_affine_map_is_one_resampling_with_a_zoom_and_shows_pixels_outside_of_the_crop() -> None:
    sample = PlannedSample.start(torch.full((3, 200, 200), 255, dtype=torch.uint8), {}, (100, 100))
    half = math.sqrt(0.5)
    turned = Affine(np.array([[half, -half], [half, half]]), np.zeros(2))
    assert (sample.zoomed(1.5, 0.5, 0.5).mapped(turned).render().image == 255).all()
    assert (sample.mapped(turned).render().image == 0).any()


def test_uncovered_area_has_the_fill_color_which_color_changes_do_not_touch() -> None:
    sample = PlannedSample.start(torch.full((3, 50, 50), 200, dtype=torch.uint8), {}, (50, 50))
    doubled = (0.5 * torch.eye(3), torch.zeros(3))
    image = sample.mapped(Affine(0.5 * np.eye(2), np.zeros(2), fill=(7, 8, 9))).recolored(doubled).render().image
    assert image[:, 0, 0].tolist() == [7, 8, 9]
    assert image[:, 25, 25].tolist() == [100, 100, 100]


def test_image_that_leaves_the_canvas_has_no_boxes() -> None:
    sample = PlannedSample.start(drawn(50, 50, (10, 10, 40, 40)), target_of((10, 10, 40, 40)), (50, 50))
    gone = sample.mapped(Affine(np.eye(2), np.array([200.0, 0.0]), fill=(1, 2, 3))).render()
    assert boxes_of(gone.targets).shape == (0, 4)
    assert torch.equal(gone.image, torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None].expand(3, 50, 50))


def test_crowd_regions_are_kept_if_little_of_them_remains() -> None:
    for is_crowd, count in ((True, 1), (False, 0)):
        targets = target_of((10, 10, 40, 40), is_crowd=is_crowd)
        sample = PlannedSample.start(drawn(50, 50, (10, 10, 40, 40)), targets, (50, 50))
        moved = sample.mapped(Affine(np.eye(2), np.array([-35.0, 0.0]))).render()
        assert len(boxes_of(moved.targets)) == count
