"""Contract tests of the operations of `data.augment`: of every row, and of an operation that is defined here."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.operations.base import implementation_of
from pipelines.data.loading.planned_sample import ImageSize, PlannedSample, SampleSource, fitted_size
from pipelines.data.loading.sample import SampleKey
from pipelines.data.loading.transforms import TrainTransform, Transformed
from pipelines.spec.augment import (
    OPERATIONS,
    Augment,
    AugmentSpec,
    operations_of,
)
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.color import PhotometricSpec
from pipelines.spec.operations.erasing import RandomErasingSpec
from pipelines.spec.operations.geometry import HorizontalFlipSpec, ScaleJitterSpec, VerticalFlipSpec

MAPPINGS = [
    {},
    {"hflip": 0.5, "vflip": 0.5, "scale_jitter": [0.5, 2.0], "photometric": 0.5},
    {"hflip": 1.0, "scale_jitter": [1.5, 3.0], "photometric": 1.0},
]


class OverlaySpec(OperationSpec):
    """Put another sample of the split beside the image."""

    IMPLEMENTATION: ClassVar[str] = f"{__name__}:overlay"

    op: Literal["overlay"] = "overlay"


def overlay(spec: OverlaySpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource) -> PlannedSample:
    """Fill the right half of the image with the left half of a random sample, and keep the boxes that fit."""
    sample, other = sample.render(), source.load(int(rng.integers(len(source)))).render()
    height = min(sample.canvas_hw[0], other.canvas_hw[0])
    half = min(sample.canvas_hw[1], other.canvas_hw[1]) // 2
    image = torch.cat([sample.image[:, :height, :half], other.image[:, :height, :half]], dim=2)
    targets: dict[str, Target] = {}
    for task in sample.targets.keys() & other.targets.keys():
        here, there = sample.targets[task], other.targets[task]
        if isinstance(here, BoxTarget) and isinstance(there, BoxTarget):
            kept = [target.boxes_xyxy[:, 2] <= half for target in (here, there)]
            shift = torch.tensor([half, 0, half, 0])
            targets[task] = BoxTarget(
                torch.cat([here.boxes_xyxy[kept[0]], there.boxes_xyxy[kept[1]] + shift]),
                *(
                    torch.cat([getattr(here, name)[kept[0]], getattr(there, name)[kept[1]]])
                    for name in ("labels", "is_crowd", "identities")
                ),
            )
    return PlannedSample.start(image, targets, (height, 2 * half))


def picture() -> tuple[Tensor, dict[str, Target]]:
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).permute(2, 0, 1)
    corners = rng.random((12, 2)) * [84, 63]
    boxes = torch.tensor(np.concatenate([corners, corners + rng.random((12, 2)) * 30 + 1], axis=1)).float()
    things = BoxTarget(boxes, torch.arange(12), torch.arange(12) % 3 == 0, torch.arange(12) + 100)
    return image, {"things": things, "kind": ClassTarget(torch.tensor(1))}


class Pictures:
    """Two further pictures, for operations over several images."""

    def __len__(self) -> int:
        return 2

    def load(self, index: int) -> PlannedSample:
        image, targets = picture()
        return PlannedSample.start(255 - image if index else image.flip(0), targets, (48, 64))


def augmented(operations: Sequence[OperationSpec], seed: int = 0, image_size: int = 64) -> Transformed:
    return TrainTransform(image_size, operations)(*picture(), np.random.default_rng(seed), Pictures())


def boxes(transformed: Transformed) -> BoxTarget:
    target = transformed.targets["things"]
    assert isinstance(target, BoxTarget)
    return target


def assert_equal(a: Transformed, b: Transformed) -> None:
    assert torch.equal(a.image, b.image)
    assert a.scale_xy == b.scale_xy
    for name in ("boxes_xyxy", "labels", "is_crowd", "identities"):
        assert torch.equal(getattr(boxes(a), name), getattr(boxes(b), name))


def parsed(augment: Any) -> tuple[OperationSpec, ...]:
    adapter: TypeAdapter[Augment] = TypeAdapter(Augment)
    return operations_of(adapter.validate_python(augment))


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_samples_of_a_mapping_and_an_equivalent_list_are_equal(mapping: dict[str, Any]) -> None:
    spec = AugmentSpec.model_validate(mapping)
    listed = [
        {"op": "scale_jitter", "range": spec.scale_jitter},
        {"op": "hflip", "p": spec.hflip},
        {"op": "vflip", "p": spec.vflip},
        {"op": "photometric", "p": spec.photometric},
    ]
    assert parsed(mapping) == parsed(listed)
    for seed in range(20):
        assert_equal(augmented(parsed(mapping), seed), augmented(parsed(listed), seed))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_is_chosen_by_its_name_and_has_an_implementation(operation: type[OperationSpec]) -> None:
    name = operation.model_fields["op"].default
    (spec,) = parsed([{"op": name}])
    assert type(spec) is operation
    assert callable(implementation_of(spec))


def often(operation: type[OperationSpec], p: float = 0.5, zoom: tuple[float, float] = (0.5, 2.0)) -> OperationSpec:
    """Return settings with which an operation changes many images."""
    strong = {"p": p, "range": zoom, "fill": "noise" if operation is RandomErasingSpec else (9, 9, 9)}
    return operation.model_validate({name: value for name, value in strong.items() if name in operation.model_fields})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_is_a_function_of_sample_and_generator(operation: type[OperationSpec]) -> None:
    spec = often(operation)
    for seed in range(5):
        assert_equal(augmented([spec], seed), augmented([spec], seed))
    assert sum(torch.equal(augmented([spec], 0).image, augmented([spec], seed).image) for seed in range(9)) < 9


@pytest.mark.parametrize("operation", OPERATIONS)
def test_labels_crowd_flags_and_identities_stay_with_their_boxes(operation: type[OperationSpec]) -> None:
    spec = often(operation, p=1.0, zoom=(1.5, 3.0))
    for seed in range(10):
        after = boxes(augmented([spec], seed))
        assert torch.equal(after.identities, after.labels + 100)
        assert torch.equal(after.is_crowd, after.labels % 3 == 0)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_keeps_type_and_size_and_modifies_no_argument(operation: type[OperationSpec]) -> None:
    image, targets = picture()
    image_before, targets_before = image.clone(), deepcopy(targets)
    for image_size in (64, 120, (90, 120)):
        for seed in range(10):
            out = TrainTransform(image_size, [often(operation, p=1.0)])(image, targets, np.random.default_rng(seed))
            assert out.image.dtype == torch.uint8
            assert out.image.shape[1:] == fitted_size((90, 120), image_size)
            assert torch.equal(image, image_before)
            for name, value in vars(targets["things"]).items():
                assert torch.equal(value, getattr(targets_before["things"], name))
            kept = boxes(out).boxes_xyxy
            assert (kept[:, 2:] - kept[:, :2] >= 1).all()
            assert (kept >= 0).all()
            assert (kept <= torch.tensor(out.image.shape[:0:-1]).repeat(2)).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_works_with_any_labels(operation: type[OperationSpec]) -> None:
    """Pixels do not depend on the labels, and no task gains or loses its labels."""
    image, targets = picture()
    nothing = BoxTarget(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), torch.zeros(0).long())
    for labels in ({}, {"kind": targets["kind"]}, {"things": nothing}, {"things": nothing, "more": targets["things"]}):
        for seed in range(3):
            transform = TrainTransform(64, [often(operation, p=1.0)])
            out = transform(image, labels, np.random.default_rng(seed))
            assert torch.equal(out.image, transform(image, targets, np.random.default_rng(seed)).image)
            assert out.targets.keys() == labels.keys()
            assert "things" not in labels or len(boxes(out).labels) == 0


@pytest.mark.parametrize("operation", OPERATIONS)
def test_large_crowd_region_is_kept(operation: type[OperationSpec]) -> None:
    image, _ = picture()
    whole = BoxTarget(torch.tensor([[0.0, 0, 120, 90]]), torch.zeros(1).long(), torch.ones(1).bool(), torch.ones(1))
    for seed in range(10):
        transform = TrainTransform(64, [often(operation, p=1.0)])
        assert boxes(transform(image, {"things": whole}, np.random.default_rng(seed))).is_crowd.tolist() == [True]


@pytest.mark.parametrize("image_size", [64, (90, 120)])
def test_all_operations_together_are_a_function_of_the_generator(image_size: ImageSize) -> None:
    image, targets = picture()
    transform = TrainTransform(image_size, [often(operation) for operation in OPERATIONS])
    for seed in range(10):
        assert_equal(*(transform(image, targets, np.random.default_rng(seed)) for _ in range(2)))


def test_empty_list_only_resizes() -> None:
    plain = augmented([])
    assert plain.image.shape == (3, 48, 64)
    assert len(boxes(plain).labels) == 12
    assert plain.scale_xy == (64 / 120, 48 / 90)


def test_flips_are_exact_and_two_equal_flips_cancel() -> None:
    plain, flip = augmented([]), HorizontalFlipSpec(p=1.0)
    assert torch.equal(augmented([flip]).image, plain.image.flip(2))
    assert torch.equal(augmented([VerticalFlipSpec(p=1.0)]).image, plain.image.flip(1))
    assert_equal(augmented([flip, flip]), plain)
    expected = boxes(plain).boxes_xyxy[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0])
    torch.testing.assert_close(
        boxes(augmented([flip])).boxes_xyxy, expected + torch.tensor([64.0, 0.0, 64.0, 0.0]), atol=1e-4, rtol=0
    )


def test_compatible_changes_resize_the_original_once() -> None:
    sample = PlannedSample.start(*picture(), (48, 64)).hflipped().zoomed(2.0, 0.0, 0.0)
    assert sample.image.shape == (3, 90, 120)
    crop = PlannedSample.start(picture()[0][:, :45, :60], {}, (48, 64)).render()
    assert torch.equal(sample.render().image, crop.image.flip(2))


def test_second_zoom_is_applied_to_the_result_of_the_first() -> None:
    halved = ScaleJitterSpec(range=(0.5, 0.5))
    twice = augmented([halved, halved])
    assert twice.image.shape == (3, 48, 64)
    assert twice.scale_xy == pytest.approx((64 / 120 / 4, 48 / 90 / 4))
    assert (twice.image.amax(dim=0) > 0).sum() <= 18 * 14, "a quarter of each side, and a pixel of blur at each border"


def test_second_color_change_is_applied_to_the_result_of_the_first() -> None:
    sample = PlannedSample.start(torch.full((3, 8, 8), 200, dtype=torch.uint8), {}, (8, 8))
    doubled, halved = ((torch.eye(3) * factor, torch.zeros(3)) for factor in (2.0, 0.5))
    assert (sample.recolored(doubled).recolored(halved).render().image == 128).all()


def test_operation_over_several_images_draws_them_from_the_source(data_with: Callable[..., JobData]) -> None:
    data = data_with()
    plain = data.dataset("train", augmented=False)
    mixed = data.dataset("train", augmented=True)
    mixed.transform = TrainTransform(64, [OverlaySpec(), PhotometricSpec(p=0.0)])
    expected = [plain[SampleKey(0, index)].image for index in range(len(mixed))]
    partners = set()
    for epoch in range(3):
        for index in range(len(mixed)):
            sample = mixed[SampleKey(epoch, index)]
            assert torch.equal(sample.image, mixed[SampleKey(epoch, index)].image)
            height, half = sample.image.shape[1], sample.image.shape[2] // 2
            assert torch.equal(sample.image[:, :, :half], expected[index][:, :height, :half])
            partners |= {
                other
                for other, image in enumerate(expected)
                if torch.equal(sample.image[:, :, half:], image[:, :height, :half])
            }
    assert len(partners) > len(mixed) / 2


def test_operations_produce_the_same_samples_from_cached_images(data_with: Callable[..., JobData]) -> None:
    datasets = [data_with().dataset("train", augmented=True) for _ in range(2)]
    for dataset in datasets:
        dataset.transform = TrainTransform(64, [OverlaySpec(), ScaleJitterSpec(range=(0.5, 2.0)), HorizontalFlipSpec()])
    datasets[1].fill_cache()
    for index in range(len(datasets[0])):
        plain, cached = (dataset[SampleKey(1, index)] for dataset in datasets)
        assert torch.equal(plain.image, cached.image)
