"""Labels of images that are combined from several ones are complete or missing."""

from collections.abc import Callable

import pytest
import torch

from heads.base import BoxTarget, ClassTarget, IdentityTarget, MixedClassTarget, Target
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import SampleKey
from pipelines.spec.augment import OperationSpec
from pipelines.spec.operations.combining import CopyPasteSpec, MixupSpec, MosaicSpec
from tests.pipelines.data.loading.combined_images import COMBINING, applied, box_target, plain


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
