"""Explanations of every head, with a tiny network whose weights are random."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from heads.classification import ClassificationHead
from pipelines.base.records import Category
from pipelines.data.loading.sample import Sample
from pipelines.explanations.chosen_row import ExplanationUnusable
from pipelines.explanations.explain import ExplainedTarget, explain, find_target
from pipelines.explanations.methods import BATCH, BY_NAME, cells_to_pixels
from pipelines.explanations.picture import draw_explanation
from pipelines.explanations.score_network import ScoreNetwork
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Predictor
from pipelines.model import build_model
from pipelines.spec.explanation import METHODS, ExplanationMethod, ExplanationRequest
from pipelines.spec.job import JobSpec
from tests.heads.conftest import Level
from tests.pipelines.conftest import TINY_DOCUMENT

DETECTORS = {
    "retinanet": {"head": "retinanet", "num_convs": 1, "score_threshold": 0.0, "max_detections": 5},
    "fcos": {"head": "fcos", "num_convs": 1, "score_threshold": 0.0, "max_detections": 5},
    "faster_rcnn": {"head": "faster_rcnn", "roi_channels": 16, "score_threshold": 0.0, "max_detections": 5},
}
TASKS = {
    **DETECTORS,
    "kind": {"head": "multiclass"},
    "signs": {"head": "multilabel"},
    "lookup": {"head": "embedding", "of": "objects", "boxes_from": "fcos", "dim": 8},
    "scene": {"head": "embedding", "of": "image", "dim": 4},
}
WITH_CLASSES = [task for task, spec in TASKS.items() if spec["head"] != "embedding"]
MAX_RANK_CORRELATION = 0.5
"""Maps whose ranks correlate less than this, as a mean over heads and weights, are different."""


def make_predictor(seed: int) -> Predictor:
    document: dict[str, Any] = copy.deepcopy(TINY_DOCUMENT)
    document["model"]["tasks"] = TASKS
    labels = document["data"]["sources"]["a"]["labels"]
    labels[0]["tasks"], labels[1]["tasks"] = [*DETECTORS, "lookup"], ["kind", "signs", "scene"]
    job = JobSpec.model_validate(document)
    categories = {task: [Category(number, f"{task} {number}") for number in range(3)] for task in TASKS}
    torch.manual_seed(seed)
    model = build_model(job.model, categories)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Predictor(TorchNetwork(model, "cpu"), job, categories)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return make_predictor(0)


@pytest.fixture(scope="module")
def others() -> list[Predictor]:
    """The same network with other random weights, twice."""
    return [make_predictor(1), make_predictor(2)]


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """Noise of 70 x 120 pixels, of which the network sees 37 x 64."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 120, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def sample(predictor: Predictor, image: Image.Image) -> Sample:
    return predictor.prepare(image)


def with_bias(predictor: Predictor, task: str, bias: float) -> Predictor:
    """Return a copy of the predictor with this bias of all classes of a classification."""
    assert isinstance(predictor.network, TorchNetwork)
    model = copy.deepcopy(predictor.network.model)
    head = model.heads[task]
    assert isinstance(head, ClassificationHead)
    nn.init.constant_(head.linear.bias, bias)
    return Predictor(TorchNetwork(model, "cpu"), predictor.job, predictor.categories)


def request(task: str, **changed: Any) -> ExplanationRequest:
    return ExplanationRequest(task=task, **({"steps": 4} | changed))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_head_is_explained_by_every_method(
    task: str, method: str, predictor: Predictor, sample: Sample, image: Image.Image
) -> None:
    reference = predictor.prepare(Image.fromarray(255 - np.array(image))) if task not in WITH_CLASSES else None
    passes: list[int] = []
    found = explain(
        predictor, sample, request(task, method=method), reference=reference, before_pass=lambda: passes.append(1)
    )
    height, width = sample.info.size_hw
    facts = found.facts
    assert found.values.shape == (facts.map.height, facts.map.width) == (height, width)
    assert found.values.dtype == np.float32
    assert np.isfinite(found.values).all()
    assert np.ptp(found.values) > 0
    assert facts.quantity == ("log_odds" if task in WITH_CLASSES else "similarity")
    assert (facts.bbox_xywh is not None) == (task in (*DETECTORS, "lookup"))
    assert facts.num_passes <= 4 * 4 + 1
    assert len(passes) >= 1 + facts.num_passes / BATCH
    assert draw_explanation(image, found).size == image.size


@pytest.mark.parametrize("task", WITH_CLASSES)
def test_explained_prediction_is_the_one_of_the_answer(task: str, predictor: Predictor, sample: Sample) -> None:
    answer = predictor.answer([sample])[0]["tasks"][task]
    rows = answer.get("detections") or answer["labels"]
    for number in (0, len(rows) - 1):
        facts = explain(predictor, sample, request(task, prediction=number)).facts
        assert (facts.prediction, facts.predicted_label, facts.label) == (number, *2 * [rows[number]["label"]])
        assert facts.predicted_score == pytest.approx(rows[number]["score"])
        assert facts.bbox_xywh == rows[number].get("bbox_xywh")
        assert 1 / (1 + np.exp(-facts.value)) == pytest.approx(rows[number]["score"], rel=1e-3)


def test_class_chooses_its_first_prediction_and_changes_the_score_of_a_named_one(
    predictor: Predictor, sample: Sample
) -> None:
    rows = predictor.answer([sample])[0]["tasks"]["kind"]["labels"]
    last = explain(predictor, sample, request("kind", label=rows[-1]["label"])).facts
    assert (last.prediction, last.label) == (2, rows[-1]["label"])
    other = explain(predictor, sample, request("retinanet", prediction=0, label="retinanet 1")).facts
    own = explain(predictor, sample, request("retinanet", prediction=0)).facts
    assert (other.label, other.bbox_xywh) == ("retinanet 1", own.bbox_xywh)
    assert other.value <= own.value


@pytest.mark.parametrize("method", METHODS)
def test_other_random_weights_give_another_map(
    method: ExplanationMethod, predictor: Predictor, others: list[Predictor], image: Image.Image
) -> None:
    """The sanity check of Adebayo et al. 2018: a map that the weights do not change says nothing about the network.

    The same score, of the same cell or proposal, is followed in networks with other weights. Maps are compared by the
    correlation of ranks where at least one of them is not 0: a local score has 0 elsewhere with any weights.
    """
    sample = predictor.prepare(image)
    correlations = []
    for task in WITH_CLASSES if method == "gradcam" else WITH_CLASSES[::2]:
        target = find_target(predictor, sample, request(task))

        def map_in(other: Predictor, task: str = task, target: ExplainedTarget = target) -> np.ndarray:
            model = other.network.model  # type: ignore[attr-defined]
            scored = ScoreNetwork(model, model.heads[task], target.followed, lambda: None)
            return BY_NAME[method](scored, sample.image[None].float().requires_grad_(), 6).detach().numpy()

        own = map_in(predictor)
        correlations += [rank_correlation(own, map_in(other)) for other in others]
    assert np.mean(correlations) < MAX_RANK_CORRELATION


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    is_used = (one != 0) | (other != 0)
    first, second = one[is_used], other[is_used]
    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return float(spearmanr(first, second).statistic)


def test_shares_of_integrated_gradients_add_up_to_the_difference_to_a_gray_image(
    predictor: Predictor, sample: Sample
) -> None:
    found = explain(predictor, sample, request("signs", method="integrated_gradients", steps=32))
    gray = copy.copy(sample)
    mean = (predictor.network.model.mean * 255)[0]  # type: ignore[attr-defined]
    gray.image = mean.round().to(torch.uint8).expand_as(sample.image)
    label = found.facts.label
    baseline = explain(predictor, gray, request("signs", label=label, method="gradcam")).facts.value
    assert found.values.sum() == pytest.approx(found.facts.value - baseline, rel=0.1, abs=0.02)


def test_nothing_makes_an_image_more_similar_to_itself(predictor: Predictor, sample: Sample) -> None:
    found = explain(predictor, sample, request("lookup", method="occlusion", steps=8))
    assert found.values.max() > 0
    assert found.facts.value == pytest.approx(1, abs=1e-4)
    assert found.values.min() > -1e-4


def test_similarity_of_an_image_to_itself_is_explained_by_occlusion(predictor: Predictor, sample: Sample) -> None:
    assert explain(predictor, sample, request("scene")).facts.method == "occlusion"
    with pytest.raises(ExplanationUnusable, match="method: got gradcam, but the similarity of an image to itself"):
        explain(predictor, sample, request("scene", method="gradcam"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": None}, "task: missing; the model has the tasks"),
        ({"task": "fcs"}, "task: got 'fcs'; did you mean 'fcos'"),
        ({"task": "fcos", "prediction": 5}, "prediction: got 5; task 'fcos' has 5 predictions"),
        ({"task": "fcos", "label": "fcos 4"}, "class: got 'fcos 4'; did you mean 'fcos 2'"),
        ({"task": "scene", "label": "fcos 1"}, "class: got 'fcos 1', but task 'scene' has no classes"),
        ({"task": "scene", "prediction": 1}, "prediction: got 1; task 'scene' has one prediction, number 0"),
    ],
)
def test_request_that_does_not_fit_is_explained(
    changed: dict[str, Any], message: str, predictor: Predictor, sample: Sample
) -> None:
    with pytest.raises(ExplanationUnusable) as caught:
        explain(predictor, sample, ExplanationRequest(**changed))
    assert message in str(caught.value)


def test_reference_is_only_for_embeddings(predictor: Predictor, sample: Sample) -> None:
    with pytest.raises(ExplanationUnusable, match="reference: task 'kind' predicts classes"):
        explain(predictor, sample, request("kind"), reference=sample)


def test_weights_that_are_not_finite_are_reported(predictor: Predictor, sample: Sample) -> None:
    with pytest.raises(ExplanationUnusable, match="task: 'kind' cannot be explained: the weights of the model give"):
        explain(with_bias(predictor, "kind", torch.nan), sample, request("kind"))


def test_picture_shows_scores_of_any_size(predictor: Predictor, sample: Sample, image: Image.Image) -> None:
    found = explain(with_bias(predictor, "signs", -1000.0), sample, request("signs"))
    assert found.facts.value < -900
    assert draw_explanation(image, found).size == image.size


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_tiny_image_is_explained(method: ExplanationMethod, size: tuple[int, int], predictor: Predictor) -> None:
    image = Image.new("RGB", size, (200, 30, 90))
    for task in ("fcos", "kind"):
        found = explain(predictor, predictor.prepare(image), request(task, method=method))
        assert np.isfinite(found.values).all()
        assert draw_explanation(image, found).size == size


def test_explanation_stops_where_its_caller_raises(predictor: Predictor, sample: Sample) -> None:
    passes = iter(range(2))

    def stop() -> None:
        if next(passes, None) is None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        explain(predictor, sample, request("kind", method="occlusion", steps=8), before_pass=stop)


def test_cells_are_placed_by_their_measured_centers() -> None:
    cells = torch.zeros(1, 1, 4, 4)
    cells[0, 0, 1, 2] = 1
    placed = cells_to_pixels(cells, Level(1, stride=8.0, offset_px=3.0), (40, 40))
    assert (placed == placed.max()).nonzero().float().mean(dim=0).tolist() == [14.5, 22.5]
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    along = cells_to_pixels(ramp, Level(1, stride=8.0), (32, 32))[0]
    assert along[4:28].tolist() == pytest.approx([(x + 0.5) / 8 - 0.5 for x in range(4, 28)])
