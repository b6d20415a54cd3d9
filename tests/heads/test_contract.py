"""Contract tests of every head with several settings, see `tests.heads.cases`."""

import pickle

import pytest
import torch

from heads.base import BoxTarget, ClassTarget, IdentityTarget
from heads.catalog import HEADS
from heads.create import create_head
from heads.spec import HEAD_SPECS
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.kinds import TASK_SPECS
from pipelines.tasks.tensors.runtime import runtime_of
from tests.heads.cases import BOXES, CASES, CLASSIFIERS, DETECTORS, EMBEDDINGS, SIZE, SIZES, TWO_STAGE, head_of
from tests.pipelines.tasks.conftest import CATEGORIES, make_record


def targets_of(case, crowd=False, empty=False):
    kind, _ = CASES[case]
    if case in BOXES:
        low = torch.tensor([[4.0, 6], [40, 10], [8, 30], [50, 34]])
        boxes = torch.cat((low, low + torch.tensor([[30.0, 34], [44, 30], [9, 12], [20, 20]])), dim=1)
        labels = torch.tensor([0, 2, 1, 0])
        if empty:
            boxes, labels = boxes[:0], labels[:0]
        return [BoxTarget(boxes, labels, torch.full(labels.shape, crowd), labels) for _ in range(2)]
    if case in CLASSIFIERS:
        is_multilabel = HEAD_SPECS[kind].is_multilabel
        labels = torch.tensor([[1.0, 0, 1], [0, 0, 0]]) if is_multilabel else torch.tensor([0, 2])
        return [ClassTarget(label) for label in labels]
    if case in EMBEDDINGS:
        return [IdentityTarget(identity) for identity in torch.tensor([-1, -1] if empty else [0, 0])]
    return encoded_targets(TASK_SPECS[kind](head=kind))


def encoded_targets(task):
    """Return targets for the head of any kind of task, from the labels of two images."""
    setup = TaskSetup("task", task, CATEGORIES)
    return [runtime_of(task).encode(setup, make_record(task, number)) for number in (1, 2)]


def with_usable_batch(case, features, targets):
    """Add an image of another identity for the losses that need a positive and a negative pair."""
    if case not in [f"embedding image {loss}" for loss in ("supcon", "ntxent", "triplet")]:
        return features, targets
    more = {level: torch.cat((maps, maps[:1] + 1)) for level, maps in features.items()}
    return more, [*targets, IdentityTarget(torch.tensor(1))]


def total_of(terms):
    return sum(total / count.clamp(min=1) for total, count in terms.values())


def check_terms(head, terms):
    assert tuple(terms) == head.loss_terms
    for total, count in terms.values():
        assert total.shape == count.shape == ()
        assert total.dtype == count.dtype == torch.float32
        assert torch.isfinite(total)
        assert count >= 0


def check_gradients(head):
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_cases_cover_the_catalog():
    assert {kind for kind, _ in CASES.values()} == set(HEADS)


@pytest.mark.parametrize("case", CASES)
def test_heads_have_no_batch_norm_since_a_single_image_may_be_labeled(case, level_specs):
    norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm)
    assert not [name for name, module in head_of(case, level_specs).named_modules() if isinstance(module, norms)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_loss_is_finite_float32_and_reaches_every_parameter(case, autocast, level_specs, make_features):
    head = head_of(case, level_specs)
    features, targets = with_usable_batch(case, make_features(2), targets_of(case))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        terms = head.loss(head(features), targets, [SIZE] * len(targets))
    check_terms(head, terms)
    assert all(total > 0 and count > 0 for total, count in terms.values())
    total_of(terms).backward()
    check_gradients(head)
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in head.named_parameters() if "scales" not in name)


@pytest.mark.parametrize("case", CASES)
def test_loss_under_autocast_is_close_to_the_exact_loss(case, level_specs, make_features):
    head = head_of(case, level_specs)
    features, targets = with_usable_batch(case, make_features(2), targets_of(case))
    exact = head.loss(head(features), targets, [SIZE] * len(targets))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = head.loss(head(features), targets, [SIZE] * len(targets))
    for term in exact:
        torch.testing.assert_close(rounded[term][0], exact[term][0], rtol=0.05, atol=0.05)
        torch.testing.assert_close(rounded[term][1], exact[term][1])


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("case", [*DETECTORS, *EMBEDDINGS])
def test_batch_without_usable_labels_has_a_finite_loss(case, crowd, level_specs, make_features):
    """Without boxes, with crowds only, or with unknown identities: a finite loss, a gradient for every parameter."""
    head = head_of(case, level_specs)
    targets = targets_of(case, crowd=crowd, empty=not crowd or case not in BOXES)
    terms = head.loss(head(make_features(2)), targets, [SIZE] * 2)
    check_terms(head, terms)
    assert all(total == 0 for term, (total, _) in terms.items() if term not in ("classification", "objectness"))
    # A two-stage detector counts the samples of both stages, of which all are negative here.
    assert case in TWO_STAGE or all(count == 0 for _, count in terms.values())
    total_of(terms).backward()
    check_gradients(head)


@pytest.mark.parametrize("case", CASES)
def test_idle_loss_is_zero_and_reaches_every_parameter(case, level_specs):
    head = head_of(case, level_specs)
    terms = head.idle_loss()
    check_terms(head, terms)
    assert all(total == 0 and count == 0 for total, count in terms.values())
    total_of(terms).backward()
    check_gradients(head)
    assert all(parameter.grad.abs().sum() == 0 for parameter in head.parameters())


@pytest.mark.parametrize("case", CASES)
def test_outputs_do_not_depend_on_the_mode_or_on_other_images(case, level_specs, make_features):
    head = head_of(case, level_specs)
    features = make_features(2)
    raw = head(features)
    head.eval()
    assert type(head(features)) is type(raw)
    boxes = [torch.tensor([[0.0, 0, 30, 40]]), torch.tensor([[10.0, 10, 90, 60], [0, 0, 20, 20]])]
    if case in DETECTORS:
        head.spec = head.spec.model_copy(update={"score_threshold": 0.0099})
    together = head.decode(head(features), SIZES, boxes)[1]
    second = {level: maps[1:] for level, maps in features.items()}
    (alone,) = head.decode(head(second), SIZES[1:], boxes[1:])
    for name, values in vars(together).items():
        if isinstance(values, torch.Tensor):
            torch.testing.assert_close(values, vars(alone)[name])
            assert values.dtype == (torch.int64 if name == "labels" else torch.float32)
        else:
            assert values == vars(alone)[name]


@pytest.mark.parametrize("case", DETECTORS)
def test_detections_are_sorted_limited_and_inside_the_image(case, level_specs, make_features):
    head = head_of(case, level_specs)
    head.spec = head.spec.model_copy(update={"score_threshold": 0.001, "max_detections": 30})
    for prediction, (height, width) in zip(head.decode(head(make_features(2)), SIZES), SIZES, strict=True):
        boxes, scores = prediction.boxes_xyxy, prediction.scores
        assert 0 < len(boxes) == len(scores) == len(prediction.labels) <= 30
        assert (scores[:-1] >= scores[1:]).all()
        assert scores.min() > 0.001
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(prediction.labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("case", DETECTORS)
def test_short_training_finds_the_boxes_of_two_images(case, level_specs, make_features):
    head = head_of(case, level_specs)
    features, targets = make_features(2), targets_of(case)
    # Wide linear layers diverge at the rate that convolutions of 12 channels need.
    rate = 0.01 if case in TWO_STAGE else 0.02
    optimizer = torch.optim.Adam([*head.parameters(), *features.values()], lr=rate)
    losses = []
    for _ in range(60):
        total = total_of(head.loss(head(features), targets, [SIZE] * len(targets)))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < losses[0] / 3
    for prediction, target in zip(head.decode(head(features), [SIZE] * 2), targets, strict=True):
        for box, label in zip(target.boxes_xyxy, target.labels, strict=True):
            of_class = prediction.boxes_xyxy[(prediction.labels == label) & (prediction.scores > 0.3)]
            assert (of_class - box).abs().amax(dim=1).min() < 4


@pytest.mark.parametrize("case", [case for case in CASES if case not in DETECTORS])
def test_short_training_reduces_the_loss(case, level_specs, make_features):
    head = head_of(case, level_specs)
    features, targets = with_usable_batch(case, make_features(2), targets_of(case))
    features = {level: maps.detach().requires_grad_() for level, maps in features.items()}
    optimizer = torch.optim.Adam([*head.parameters(), *features.values()], lr=0.02)
    losses = []
    for _ in range(30):
        total = total_of(head.loss(head(features), targets, [SIZE] * len(targets)))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < losses[0] * 0.75


@pytest.mark.parametrize("kind", HEADS)
def test_document_names_every_head_and_has_all_of_its_settings(kind):
    task = TASK_SPECS[kind](head=kind)
    assert set(TASK_SPECS) == set(HEAD_SPECS)
    assert isinstance(task, HEAD_SPECS[kind])
    settings = HEAD_SPECS[kind](head=kind).model_dump()
    assert settings == {name: value for name, value in task.model_dump().items() if name in settings}


@pytest.mark.parametrize("kind", HEADS)
def test_head_of_a_task_is_the_head_of_its_settings(kind, level_specs):
    heads = []
    for spec in (HEAD_SPECS[kind](head=kind), TASK_SPECS[kind](head=kind)):
        torch.manual_seed(0)
        heads.append(create_head(spec, level_specs=level_specs, num_classes=2))
    states = [head.state_dict() for head in heads]
    assert type(heads[0]) is type(heads[1])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("kind", HEADS)
def test_task_can_be_pickled(kind):
    task = TASK_SPECS[kind](head=kind, weight=0.5)
    assert pickle.loads(pickle.dumps(task)) == task
