"""Operations over several images: boxes and pixels stay together, and labels are complete or missing."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heads.base import BoxTarget, ClassTarget, IdentityTarget, MixedClassTarget, Target
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.planned_sample import PlannedSample, fitted_size
from pipelines.data.loading.sample import SampleKey
from pipelines.data.loading.target_boxes import MIN_KEPT_AREA, uncover
from pipelines.data.loading.transforms import TrainTransform, Transformed
from pipelines.spec.augment import OperationSpec
from pipelines.spec.operations.combining import CopyPasteSpec, CutmixSpec, MixupSpec, MosaicSpec
from pipelines.spec.operations.geometry import HorizontalFlipSpec

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
COMBINING: tuple[OperationSpec, ...] = (
    MosaicSpec(p=1.0),
    MixupSpec(p=1.0),
    CutmixSpec(p=1.0),
    CopyPasteSpec(p=1.0),
)


def box_target(boxes_xyxy: Sequence[Sequence[float]], labels: Sequence[int], crowd: Sequence[bool] = ()) -> BoxTarget:
    return BoxTarget(
        torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
        torch.tensor(labels, dtype=torch.int64) + 100,
    )


class Images:
    """A source that gives its samples in their order, whatever is drawn; it starts again at the end."""

    def __init__(self, *samples: PlannedSample) -> None:
        self.samples = samples
        self.count = 0

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> PlannedSample:
        self.count += 1
        return self.samples[(self.count - 1) % len(self.samples)]


def applied(
    operations: OperationSpec | Sequence[OperationSpec], seed: int, sample: PlannedSample, *others: PlannedSample
) -> Transformed:
    """Return the sample after operations with other images; the canvas is that of the sample."""
    chosen = [operations] if isinstance(operations, OperationSpec) else operations
    transform = TrainTransform(max(sample.canvas_hw), chosen)
    return transform(sample.image, sample.targets, np.random.default_rng(seed), Images(*others))


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


def plain(value: int, targets: dict[str, Target], size_hw: tuple[int, int] = (64, 64)) -> PlannedSample:
    return PlannedSample.start(torch.full((3, *size_hw), value, dtype=torch.uint8), targets, size_hw)


def weights_of(target: Target) -> dict[int, float]:
    assert isinstance(target, ClassTarget)
    return {label: round(weight, 3) for label, weight in target.label_weights.items()}


@pytest.mark.parametrize("operation", COMBINING[:3], ids=lambda operation: operation.op)
def test_weights_of_the_classes_are_their_shares_of_the_pixels(operation: OperationSpec) -> None:
    """White images have class 0, black ones class 1: the mean of all pixels is the weight of class 0."""
    white, black = (plain(255 - 255 * k, {"kind": ClassTarget(torch.tensor(k))}) for k in range(2))
    many = [plain(255 - 255 * k, {"signs": ClassTarget(torch.eye(3)[k])}) for k in range(2)]
    seen = set()
    for seed in range(20):
        out = applied(operation, seed, white, black)
        weights = weights_of(out.targets["kind"])
        seen.add(weights[0])
        assert weights[0] + weights[1] == pytest.approx(1, abs=2e-3)
        assert weights[0] == pytest.approx(float(out.image.float().mean()) / 255, abs=3e-3)
        labels = applied(operation, seed, *many).targets["signs"].labels  # type: ignore[attr-defined]
        expected = [1, 1, 0] if operation.op == "mosaic" else [weights[0], weights[1], 0]
        assert labels.tolist() == pytest.approx(expected, abs=1e-3)
    assert len(seen) > 15
    same = applied(operation, 0, white, plain(0, white.targets)).targets["kind"]
    assert not isinstance(same, MixedClassTarget)
    assert weights_of(same) == {0: 1.0}


def test_mixtures_of_mixtures_have_the_products_of_the_shares() -> None:
    first = ClassTarget(torch.tensor(2)).combined([ClassTarget(torch.tensor(0))], [0.75, 0.25], side_by_side=False)
    second = first.combined([ClassTarget(torch.tensor(2))], [0.4, 0.6], side_by_side=True)
    assert weights_of(second) == {2: 0.9, 0: 0.1}
    torch.testing.assert_close(second.probabilities(4), torch.tensor([0.1, 0.0, 0.9, 0.0]))


BOXES = box_target([[10, 10, 40, 40]], [0])
KIND, SIGNS = ClassTarget(torch.tensor(1)), ClassTarget(torch.tensor([1.0, 0.0]))
IDENTITY = IdentityTarget(torch.tensor(3))


@pytest.mark.parametrize("operation", COMBINING[:3], ids=lambda operation: operation.op)
def test_combination_is_labeled_only_for_tasks_that_all_parts_are_labeled_for(operation: OperationSpec) -> None:
    own = plain(9, {"a": BOXES, "b": BOXES, "kind": KIND, "signs": SIGNS, "who": IDENTITY})
    whole = plain(99, own.targets)
    partly = plain(99, {"a": BOXES, "signs": SIGNS, "who": IDENTITY, "more": BOXES})
    assert set(applied(operation, 0, own, whole).targets) == {"a", "b", "kind", "signs"}
    others = (whole, partly, whole) if operation.op == "mosaic" else (partly,)
    out = applied(operation, 0, own, *others)
    assert set(out.targets) == {"a", "signs"}
    assert (out.image == 99).any() or operation.op == "mixup"


@pytest.mark.parametrize("operation", COMBINING[:3], ids=lambda operation: operation.op)
@pytest.mark.parametrize("targets", [{"who": IDENTITY}, {"kind": KIND}])
def test_image_that_would_lose_all_labels_is_not_combined(operation: OperationSpec, targets: dict[str, Target]) -> None:
    out = applied(operation, 0, plain(9, targets), plain(99, {"who": IDENTITY}))
    assert out.targets == targets
    assert (out.image == 9).all()


def test_objects_of_all_parts_keep_labels_and_identities() -> None:
    parts = [plain(9, {"a": box_target([[8, 8, 56, 56]], [k])}) for k in range(4)]
    for seed in range(10):
        target = applied(MosaicSpec(p=1.0, range=(0.5, 0.6)), seed, *parts).targets["a"]
        assert isinstance(target, BoxTarget)
        assert torch.equal(target.identities, target.labels + 100)
        assert set(target.labels.tolist()) <= {0, 1, 2, 3}


def test_objects_of_a_faint_image_are_dropped_from_a_mixup_but_not_crowds() -> None:
    own = plain(0, {"a": box_target([[8, 8, 56, 56], [2, 2, 30, 30]], [0, 1], [False, True])})
    other = plain(200, {"a": box_target([[4, 4, 60, 60]], [2])})
    kept = set()
    for seed in range(40):
        out = applied(MixupSpec(p=1.0, alpha=0.8), seed, own, other)
        share = 1 - float(out.image.float().mean()) / 200
        if min(abs(share - 0.3), abs(share - 0.7)) < 0.01:
            continue
        target = out.targets["a"]
        assert isinstance(target, BoxTarget)
        labels = tuple(target.labels.tolist())
        assert labels == (*((0,) if share > 0.3 else ()), 1, *((2,) if share < 0.7 else ()))
        kept.add(labels)
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("own", "other", "is_pasted"),
    [
        pytest.param({"a": BOXES}, {"a": BOXES}, True, id="same_tasks"),
        pytest.param({"a": BOXES}, {"a": BOXES, "b": BOXES, "kind": KIND}, True, id="other_has_more"),
        pytest.param({"a": BOXES, "b": BOXES}, {"a": BOXES}, False, id="objects_of_b_would_be_unlabeled"),
        pytest.param({"kind": KIND}, {"kind": KIND}, False, id="no_objects"),
        pytest.param({"a": BOXES, "kind": KIND}, {"a": BOXES, "kind": KIND}, True, id="same_class"),
        pytest.param(
            {"a": BOXES, "kind": KIND}, {"a": BOXES, "kind": ClassTarget(torch.tensor(0))}, False, id="other_class"
        ),
        pytest.param({"a": BOXES, "kind": KIND}, {"a": BOXES}, False, id="unknown_class"),
        pytest.param(
            {"a": BOXES, "signs": ClassTarget(torch.tensor([1.0, 1.0]))}, {"a": BOXES, "signs": SIGNS}, True, id="fewer"
        ),
        pytest.param(
            {"a": BOXES, "signs": SIGNS}, {"a": BOXES, "signs": ClassTarget(torch.tensor([1.0, 1.0]))}, False, id="more"
        ),
        pytest.param({"a": BOXES, "who": IDENTITY}, {"a": BOXES}, True, id="identity_of_the_image"),
    ],
)
def test_only_objects_that_leave_the_labels_complete_are_pasted(
    own: dict[str, Target], other: dict[str, Target], is_pasted: bool
) -> None:
    out = applied(CopyPasteSpec(p=1.0), 1, plain(9, own), plain(99, other))
    assert bool((out.image == 99).any()) == is_pasted
    assert set(out.targets) == set(own)
    for task in own.keys() - {"a", "b"}:
        assert out.targets[task] is own[task]


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
    targets: dict[str, Target] = {"a": box_target(boxes, list(range(8)), crowd), "kind": KIND}
    patches = torch.tensor([[0, 0, 10, 50], [90, 0, 100, 50], [50, 70, 60, 80]])
    found = uncover(targets, patches)
    target = found["a"]
    assert isinstance(target, BoxTarget)
    assert found["kind"] is KIND
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


def test_cached_images_are_not_modified() -> None:
    """Images of the size of the canvas are not copied by the resize."""
    for operation in COMBINING:
        samples = [plain(value, {"a": BOXES, "kind": KIND}) for value in (9, 99)]
        applied(operation, 0, *samples)
        assert [sample.image.unique().tolist() for sample in samples] == [[9], [99]]


AUGMENT = [{"op": "mosaic", "p": 0.7}, {"op": "mixup"}, {"op": "cutmix"}, {"op": "copy_paste", "p": 1.0}]


def test_images_are_combined_with_images_of_their_source_and_keep_their_labels(
    data_with: Callable[..., JobData],
) -> None:
    data = data_with(augment=AUGMENT)
    dataset = data.dataset("train", augmented=True)
    for index, record in enumerate(dataset.records):
        partners = dataset.partners(SampleKey(0, index))
        others = [dataset.records[other] for other in partners.indices]
        assert {other.source for other in others} == {record.source}
        assert all(record.labels.keys() <= other.labels.keys() for other in others)
        for epoch in range(4):
            assert set(dataset[SampleKey(epoch, index)].targets) == set(record.labels)


def test_last_epochs_have_no_combined_images(data_with: Callable[..., JobData]) -> None:
    combining = data_with(augment=[*AUGMENT, {"op": "hflip"}]).dataset("train", augmented=True)
    flipping = data_with(augment=[{"op": "hflip"}]).dataset("train", augmented=True)
    for index in range(len(combining)):
        key = SampleKey(3, index, is_combined=False)
        assert torch.equal(combining[key].image, flipping[key].image)
    assert any(
        not torch.equal(combining[SampleKey(3, index)].image, flipping[SampleKey(3, index)].image)
        for index in range(len(combining))
    )


def test_size_of_a_batch_is_that_of_its_images_and_their_partners(data_with: Callable[..., JobData]) -> None:
    dataset = data_with(augment=AUGMENT, image_size=64).dataset("train", augmented=True)
    for size, longer in ((96, 96), ((32, 64), 48), (None, 64)):
        sample = dataset[SampleKey(0, 0, image_size=size)]
        assert max(sample.info.size_hw) == longer
        assert dataset.partners(SampleKey(0, 0, image_size=size)).load(0).canvas_hw == sample.info.size_hw
