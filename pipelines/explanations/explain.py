"""Explain one prediction of a model: find it, follow its score, and make a map of what the score depends on."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heads.base import Head, Prediction
from heads.explainable import ChosenPrediction, FollowedScore
from pipelines.base.errors import FieldProblem
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.sample import ImageInfo, Sample
from pipelines.explanations.chosen_row import ChosenRow, ExplanationUnusable, choose_row, choose_task
from pipelines.explanations.methods import BY_NAME
from pipelines.explanations.score_network import ScoreNetwork
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Predictor
from pipelines.spec.explanation import (
    DEFAULT_STEPS,
    ExplanationFacts,
    ExplanationMethod,
    ExplanationRequest,
    ImagePixels,
)
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.kinds import kind_of


@dataclass(frozen=True)
class Explanation:
    """A map of the influence of each pixel on a score.

    Attributes:
        values: (h, w) float32, of the image as the network sees it; positive values raise the score.
        facts: the prediction, and how it was explained.
    """

    values: NDArray[np.float32]
    facts: ExplanationFacts


@dataclass(frozen=True)
class ExplainedTarget:
    """The prediction that is explained.

    Attributes:
        row: its row in the answer.
        followed: its score, as a function of raw outputs of `head`.
        head: of the task.
        value: the score for the image as it is.
    """

    row: ChosenRow
    followed: FollowedScore
    head: Head
    value: float


def explain(
    predictor: Predictor,
    image: Sample,
    request: ExplanationRequest,
    *,
    reference: Sample | None = None,
    before_pass: Callable[[], None] = lambda: None,
) -> Explanation:
    """Return the explanation of one prediction for an image, computed in float32.

    Args:
        predictor: whose network torch computes.
        image: prepared by the predictor.
        request: the prediction, and the method.
        reference: another image, for the similarity of embeddings; by default that of the image to itself.
        before_pass: called before each batch of at most `pipelines.explanations.methods.BATCH` images; it may raise.

    Raises:
        ExplanationUnusable: the request does not fit the model or the image.
    """
    network = _network(predictor)
    before_pass()
    target = find_target(predictor, image, request, reference)
    method = _method(request, target.followed)
    steps = (request.steps or DEFAULT_STEPS[method]) if method in DEFAULT_STEPS else None
    scored = ScoreNetwork(network.model, target.head, target.followed, before_pass)
    started = time.monotonic()
    pixels = image.image[None].to(network.device).float().requires_grad_()
    values = BY_NAME[method](scored, pixels, steps or 0).detach().float().cpu().numpy()
    if not (math.isfinite(target.value) and np.isfinite(values).all()):
        message = f"{target.row.task.name!r} cannot be explained: the weights of the model give numbers that are not "
        raise ExplanationUnusable(FieldProblem("task", f"{message}finite; choose another run or version"))
    facts = {
        **_about_target(target, image.info),
        **_about_map(values, target.row, image.info),
        "method": method,
        "steps": steps,
        "level": target.followed.level if method == "gradcam" else None,
        "num_passes": scored.num_passes,
        "seconds": round(time.monotonic() - started, 3),
    }
    return Explanation(values, ExplanationFacts.model_validate(facts))


def find_target(
    predictor: Predictor, image: Sample, request: ExplanationRequest, reference: Sample | None = None
) -> ExplainedTarget:
    """Return the prediction that a request names; see `explain` for the arguments and the errors."""
    network, task = _network(predictor), choose_task(predictor.setups, request)
    model, info = network.model, image.info
    images = Collate([])([image]).images.to(network.device)
    # Not by the network, which computes in inference mode: its results cannot take part in gradients.
    predictions = {name: own[0] for name, own in model.predict(images, [info.size_hw]).items()}
    row = choose_row(task, predictor.to_answer(predictions, info)["tasks"][task.name], request)
    boxes = predictions[predictor.job.model.boxes_from(task.name) or task.name].object_boxes_xyxy
    chosen = ChosenPrediction(
        box_xyxy=None if boxes is None or row.number is None else boxes[row.number],
        found_label=row.position_of(row.found.get("label")),
        label=row.position_of(row.label),
        reference=None if reference is None else _prediction(network, task, reference),
    )
    head = model.heads[task.name]
    assert isinstance(head, Head)
    with torch.no_grad():
        raw = head(model.features(images))
        try:
            followed = head.follow(raw, info.size_hw, chosen)
        except (NotImplementedError, ValueError) as error:
            raise ExplanationUnusable(FieldProblem("task", f"{task.name!r} cannot be explained: {error}")) from error
        return ExplainedTarget(row, followed, head, float(followed.of(raw)))


def _network(predictor: Predictor) -> TorchNetwork:
    assert isinstance(predictor.network, TorchNetwork)
    return predictor.network


def _prediction(network: TorchNetwork, task: TaskSetup[Any], reference: Sample) -> Prediction:
    """Return the prediction of a task for the reference image; raises ExplanationUnusable if it cannot have one."""
    if kind_of(task.spec).has_labels(task.spec):
        message = f"task {task.name!r} predicts classes; only embeddings are compared with another image: leave it out"
        raise ExplanationUnusable(FieldProblem("reference", message))
    images = Collate([])([reference]).images.to(network.device)
    return network.model.predict(images, [reference.info.size_hw])[task.name][0]


def _method(request: ExplanationRequest, followed: FollowedScore) -> ExplanationMethod:
    default: ExplanationMethod = "occlusion" if followed.is_at_maximum else "gradcam"
    method = request.method or default
    if method == "gradcam" and followed.is_at_maximum:
        message = (
            "got gradcam, but the similarity of an image to itself is at its maximum, where the gradient is 0; add a "
            "reference image, or use occlusion"
        )
        raise ExplanationUnusable(FieldProblem("method", message))
    return method


def _about_target(target: ExplainedTarget, info: ImageInfo) -> dict[str, Any]:
    row, (height, width) = target.row, info.original_hw
    return {
        "task": row.task.name,
        "prediction": row.number,
        "predicted_label": row.found.get("label"),
        "predicted_score": row.found.get("score"),
        "bbox_xywh": row.found.get("bbox_xywh"),
        "label": row.label,
        "quantity": target.followed.quantity,
        "value": target.value,
        "image": ImagePixels(width=width, height=height),
    }


def _about_map(values: NDArray[np.float32], row: ChosenRow, info: ImageInfo) -> dict[str, Any]:
    """Return the size of the map, and the shares of the box in the image and in the positive values."""
    height, width = values.shape
    about: dict[str, Any] = {"map": ImagePixels(width=width, height=height), "box_share": None, "mass_in_box": None}
    if (box := row.found.get("bbox_xywh")) is not None:
        weights = _coverage(box, info, (height, width))
        positive = values.clip(min=0)
        total = float(positive.sum(dtype=np.float64))
        about["box_share"] = float(weights.mean())
        about["mass_in_box"] = float((positive * weights).sum(dtype=np.float64)) / total if total > 0 else None
    return about


def _coverage(bbox_xywh: Sequence[float], info: ImageInfo, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share (h, w) of each pixel of a map that lies in a box, which is in pixels of the original image."""
    x, y, box_width, box_height = bbox_xywh
    scale_x, scale_y = info.scale_xy
    along_x = _overlap(x * scale_x, (x + box_width) * scale_x, size_hw[1])
    along_y = _overlap(y * scale_y, (y + box_height) * scale_y, size_hw[0])
    return along_y[:, None] * along_x


def _overlap(low: float, high: float, size: int) -> NDArray[np.float64]:
    """Return the length of the part of each pixel that lies between `low` and `high`."""
    starts = np.arange(size)
    return (np.minimum(high, starts + 1) - np.maximum(low, starts)).clip(min=0)
