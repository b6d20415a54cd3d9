"""The transforms of training and evaluation keep boxes and pixels consistent."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.data.loading.planned_sample import ImageSize, fitted_size
from pipelines.data.loading.sample import ImageInfo, padded_size
from pipelines.data.loading.target_boxes import MIN_KEPT_AREA, sanitize
from pipelines.data.loading.transforms import EvalTransform, TrainTransform
from pipelines.spec.augment import AugmentSpec
from pipelines.tasks.tensors.boxes import boxes_to_original

SIZES = st.integers(40, 160)
IMAGE_SIZES: st.SearchStrategy[ImageSize] = st.one_of(
    st.integers(64, 200), st.tuples(st.integers(64, 200), st.integers(64, 200))
)


def box_target(boxes_xyxy: list[list[float]], is_crowd: list[bool] | None = None) -> BoxTarget:
    count = len(boxes_xyxy)
    return BoxTarget(
        boxes_xyxy=torch.tensor(boxes_xyxy).reshape(-1, 4).float(),
        labels=torch.arange(count),
        is_crowd=torch.tensor(is_crowd or [False] * count, dtype=torch.bool),
        identities=torch.arange(count) + 100,
    )


def drawn(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    """Return a red rectangle on blue, in HWC memory like decoded images."""
    image = torch.zeros(height, width, 3, dtype=torch.uint8)
    image[..., 2] = 255
    image[box[1] : box[3], box[0] : box[2], 0] = 255
    image[box[1] : box[3], box[0] : box[2], 2] = 0
    return image.permute(2, 0, 1)


def found(image: Tensor) -> Tensor:
    """Return the rectangle's box, measured by color; partly red border pixels count by their red fraction."""
    red = image[0].float() / 255
    rows, columns = red.amax(dim=1), red.amax(dim=0)
    inner_y, inner_x = (rows > 0.99).nonzero().flatten(), (columns > 0.99).nonzero().flatten()
    y1, y2, x1, x2 = inner_y.min(), inner_y.max() + 1, inner_x.min(), inner_x.max() + 1
    return torch.stack([x1 - columns[:x1].sum(), y1 - rows[:y1].sum(), x2 + columns[x2:].sum(), y2 + rows[y2:].sum()])


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    height, width = draw(SIZES), draw(SIZES)
    x1, y1 = draw(st.integers(0, width - 24)), draw(st.integers(0, height - 24))
    return height, width, (x1, y1, draw(st.integers(x1 + 20, width)), draw(st.integers(y1 + 20, height)))


@given(picture=pictures(), image_size=IMAGE_SIZES)
@settings(max_examples=60, deadline=None)
def test_eval_boxes_match_the_pixels(
    picture: tuple[int, int, tuple[int, int, int, int]], image_size: ImageSize
) -> None:
    height, width, box = picture
    out = EvalTransform(image_size)(drawn(height, width, box), {"t": box_target([list(map(float, box))])})
    target = out.targets["t"]
    assert isinstance(target, BoxTarget)
    assert out.image.shape[-2:] == fitted_size((height, width), image_size)
    torch.testing.assert_close(target.boxes_xyxy[0], found(out.image), atol=0.6, rtol=0)


@given(
    picture=pictures(),
    image_size=IMAGE_SIZES,
    seed=st.integers(0, 2**32),
    jitter=st.sampled_from([None, (0.4, 0.9), (1.0, 2.5), (0.3, 3.0)]),
    flips=st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])),
)
@settings(max_examples=150, deadline=None)
def test_augmented_boxes_match_the_pixels(
    picture: tuple[int, int, tuple[int, int, int, int]],
    image_size: ImageSize,
    seed: int,
    jitter: tuple[float, float] | None,
    flips: tuple[float, float],
) -> None:
    height, width, box = picture
    transform = TrainTransform(
        image_size, AugmentSpec(hflip=flips[0], vflip=flips[1], scale_jitter=jitter).operations()
    )
    targets: dict[str, Target] = {"t": box_target([list(map(float, box))])}
    out = transform(drawn(height, width, box), targets, np.random.default_rng(seed))
    assert out.image.shape == (3, *fitted_size((height, width), image_size))
    target = out.targets["t"]
    assert isinstance(target, BoxTarget)
    red_area = float((out.image[0].float() / 255).sum())
    whole_area = (box[2] - box[0]) * (box[3] - box[1]) * out.scale_xy[0] * out.scale_xy[1]
    if len(target.boxes_xyxy) == 0:
        assert red_area < (MIN_KEPT_AREA + 0.1) * whole_area
        return
    sides = target.boxes_xyxy[0, 2:] - target.boxes_xyxy[0, :2]
    assert red_area == pytest.approx(float(sides.prod()), rel=0.1)
    if sides.min() > 5:
        torch.testing.assert_close(target.boxes_xyxy[0], found(out.image), atol=0.8, rtol=0)


def test_zoom_keeps_the_aspect_up_to_a_pixel_and_covers_its_range() -> None:
    transform = TrainTransform(120, AugmentSpec(scale_jitter=(0.5, 2.0)).operations())
    image = drawn(80, 120, (0, 0, 120, 80))
    scales = torch.tensor([transform(image, {}, np.random.default_rng(seed)).scale_xy for seed in range(200)])
    assert scales.min() < 0.55
    assert scales.max() > 1.85
    assert ((scales[:, 0] / scales[:, 1]) - 1).abs().max() < 0.03
    assert 0.35 < float((scales[:, 0] > 1).float().mean()) < 0.65


def test_padding_of_a_zoom_out_stays_black_under_color_changes() -> None:
    transform = TrainTransform(64, AugmentSpec(scale_jitter=(0.5, 0.5), photometric=1.0).operations())
    out = transform(drawn(64, 64, (10, 10, 40, 40)), {}, np.random.default_rng(0))
    assert (out.image.amax(dim=0) == 0).sum() == 64 * 64 - 32 * 32


def test_tasks_of_one_image_share_the_geometry() -> None:
    transform = TrainTransform(64, AugmentSpec(hflip=0.5, vflip=0.5, scale_jitter=(0.8, 1.2)).operations())
    boxes = [[10.0, 12.0, 30.0, 40.0], [20.0, 20.0, 44.0, 50.0]]
    for seed in range(10):
        targets: dict[str, Target] = {
            "a": box_target(boxes),
            "b": box_target(boxes[1:]),
            "c": ClassTarget(torch.tensor(1)),
        }
        out = transform(drawn(64, 64, (0, 0, 20, 20)), targets, np.random.default_rng(seed))
        a, b = out.targets["a"], out.targets["b"]
        assert isinstance(a, BoxTarget)
        assert isinstance(b, BoxTarget)
        assert torch.equal(a.boxes_xyxy[a.labels == 1], b.boxes_xyxy)
        assert out.targets["c"] is targets["c"]


def test_labels_crowd_flags_and_identities_stay_with_their_boxes() -> None:
    before = box_target(
        [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 40, 40]],
        is_crowd=[False, False, True, True, False],
    )
    after = box_target(
        [[0, 0, 20, 20], [0, 0, 20, 5.9], [0, 0, 20, 5.9], [0, 0, 20, 0.9], [0, 0, 80, 0.99]],
        is_crowd=[False, False, True, True, False],
    )
    kept = sanitize({"t": before}, {"t": after}, area_scale=4.0)["t"]
    assert isinstance(kept, BoxTarget)
    assert kept.labels.tolist() == [0, 2]
    assert kept.identities.tolist() == [100, 102]
    assert kept.is_crowd.tolist() == [False, True]


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), image_size=IMAGE_SIZES)
def test_fitted_size_equals_a_limit_and_keeps_the_aspect(height: int, width: int, image_size: ImageSize) -> None:
    fitted = fitted_size((height, width), image_size)
    limits = (image_size, image_size) if isinstance(image_size, int) else image_size
    assert any(side == limit for side, limit in zip(fitted, limits, strict=True))
    assert all(1 <= side <= limit for side, limit in zip(fitted, limits, strict=True))
    exact = min(limits[0] / height, limits[1] / width)
    assert all(
        abs(new - side * exact) <= 0.5 + 1e-6 or new == 1 for new, side in zip(fitted, (height, width), strict=True)
    )


@pytest.mark.parametrize(
    ("original", "image_size", "expected"),
    [
        ((480, 640), 320, (240, 320)),
        ((480, 640), (240, 240), (180, 240)),
        ((333, 500), 512, (341, 512)),
        ((3, 999), 32, (1, 32)),
    ],
)
def test_fitted_size_equals_hand_computed_sizes(
    original: tuple[int, int], image_size: ImageSize, expected: tuple[int, int]
) -> None:
    assert fitted_size(original, image_size) == expected


@given(side=st.integers(1, 5000))
def test_padded_size_is_the_next_multiple_of_32(side: int) -> None:
    assert padded_size((side, 32)) == (math.ceil(side / 32) * 32, 32)


@given(picture=pictures(), image_size=IMAGE_SIZES)
@settings(max_examples=60, deadline=None)
def test_boxes_are_mapped_back_to_original_pixels(
    picture: tuple[int, int, tuple[int, int, int, int]], image_size: ImageSize
) -> None:
    height, width, box = picture
    out = EvalTransform(image_size)(drawn(height, width, box), {"t": box_target([list(map(float, box))])})
    target = out.targets["t"]
    assert isinstance(target, BoxTarget)
    size_hw = (out.image.shape[1], out.image.shape[2])
    info = ImageInfo(1, "x", "s", (height, width), size_hw, out.scale_xy)
    torch.testing.assert_close(
        boxes_to_original(target.boxes_xyxy, info)[0], torch.tensor(box).float(), atol=1e-3, rtol=0
    )
    outside = boxes_to_original(torch.tensor([[-9.0, -9.0, 1e5, 1e5]]), info)
    assert outside.tolist() == [[0, 0, width, height]]
    assert boxes_to_original(torch.zeros(0, 4), info).shape == (0, 4)


def test_eval_keeps_every_box_in_its_order_even_if_it_is_tiny() -> None:
    boxes = [[50.0, 50.0, 50.2, 50.2], [0.0, 0.0, 64.0, 64.0], [3.0, 3.0, 9.0, 9.0]]
    target = EvalTransform(32)(drawn(64, 64, (0, 0, 20, 20)), {"t": box_target(boxes)}).targets["t"]
    assert isinstance(target, BoxTarget)
    torch.testing.assert_close(target.boxes_xyxy, torch.tensor(boxes) / 2)
    assert target.labels.tolist() == [0, 1, 2]
