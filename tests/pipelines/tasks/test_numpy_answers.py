"""The functions of kinds that are copied beside exported graphs make the answers of the predictor, without torch."""

from inspect import getsource
from typing import Any

import numpy as np
import pytest
import torch

from heads.base import BoxPrediction
from heads.create import decode_graph_outputs
from heads.detection_spec import DetectionHeadSpec, FasterRCNNHeadSpec, FCOSHeadSpec
from heads.exportable import ObjectRows
from pipelines.tasks.class_thresholds import class_thresholds
from pipelines.tasks.classification.numpy_answer import classification
from pipelines.tasks.detection.numpy_answer import detection
from pipelines.tasks.numpy_detections import all_objects
from pipelines.tasks.thresholds import rows_above
from tests.pipelines.tasks.conftest import BOXES_XYXY, CATEGORIES, INPUT_HW, HalvedImage, TaskCase, random_features

SCORES = np.array([0.75, 0.125, 0.5], dtype=np.float32)


class FoundBoxes:
    """Boxes that the detection task `found` finds in the original image, of which one is below the threshold 0.2."""

    boxes_xyxy = 2 * np.array([*BOXES_XYXY, BOXES_XYXY[0]], dtype=np.float32)
    scores = SCORES


def model_of(case: TaskCase, thresholds: dict[str, float | None]) -> dict[str, Any]:
    """Return what the functions read of model.json."""
    categories = [{"id": category.id, "name": category.name} for category in CATEGORIES]
    return {
        "model": {"tasks": {"task": case.spec.model_dump(mode="json"), "found": {}}},
        "categories": {"task": categories, "found": categories},
        "best_thresholds": {"task": thresholds, "found": dict.fromkeys("ABC", 0.2)},
        "temperatures": {},
        "nms": "inside" if case.head.needs_boxes else "outside",
    }


def outputs_of(case: TaskCase) -> dict[str, np.ndarray]:
    """Return the outputs of the graph for one image, with boxes in pixels of the original, which is twice as large."""
    rows = ObjectRows(torch.from_numpy(FoundBoxes.boxes_xyxy / 2), torch.zeros(3, dtype=torch.int64))
    objects = rows if case.head.needs_boxes else None
    with torch.no_grad():
        found = case.head.graph_outputs(case.head(random_features(1)), torch.tensor([INPUT_HW]), objects)
    outputs = {f"task.{name}": array.numpy() for name, array in found.items()}
    height, width = HalvedImage().original_hw
    if "task.boxes" in outputs:
        outputs["task.boxes"] = (2 * outputs["task.boxes"]).clip(0, [width, height] * 2)
    if objects is not None:
        outputs |= {"found.boxes": FoundBoxes.boxes_xyxy, "found.scores": SCORES, "found.labels": np.array([0, 1, 2])}
    return outputs


def test_answer_of_every_head_is_that_of_the_predictor_with_the_best_thresholds(task_case: TaskCase) -> None:
    case = task_case
    functions = case.kind.numpy_functions(case.spec)
    names: dict[str, Any] = {"np": np, "Any": Any}
    exec("\n\n".join(map(getsource, functions)), names)

    prediction = case.network_prediction(1)
    if case.head.needs_boxes:
        boxes = [torch.from_numpy(FoundBoxes.boxes_xyxy / 2)]
        (prediction,) = case.head.decode(case.head(random_features(1)), [INPUT_HW], boxes)
    output = case.runtime.from_network(prediction, HalvedImage())
    if case.kind.takes_boxes(case.spec):
        output = case.runtime.with_boxes(output, FoundBoxes())
    expected = case.runtime.answer(case.setup, output)
    thresholds: dict[str, float | None] = {}
    if case.kind.has_thresholds(case.spec) and case.kind.gives_boxes:
        rows = expected["detections"]
        middle = sorted(row["score"] for row in rows)[len(rows) // 2] - 1e-5
        thresholds = {"A": middle, "B": middle, "C": None}
        expected = case.kind.with_rows(expected, rows_above(case.spec, expected, class_thresholds(thresholds)))
    elif case.head.needs_boxes:
        expected = case.kind.with_rows(expected, [True, False, True])

    found = names[functions[-1].__name__]("task", outputs_of(case), model_of(case, thresholds))
    assert leaves(found) == pytest.approx(leaves(expected), abs=1e-3)


def leaves(answer: Any) -> list[Any]:
    """Return the values in an answer, with the names of fields, in a fixed order."""
    if isinstance(answer, dict):
        return [value for name in sorted(answer) for value in [name, *leaves(answer[name])]]
    return [value for part in answer for value in leaves(part)] if isinstance(answer, list) else [answer]


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("head", ["dense", "two-stage"])
def test_objects_selected_without_torch_are_those_of_the_head(head: str, sigma: float | None) -> None:
    settings: dict[str, Any] = {"score_threshold": 0.6, "max_detections": 50, "soft_nms_sigma": sigma}
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(80, 3, generator=generator)
    # Some boxes leave the image, and some have no area.
    corners = 30 * torch.rand(80, 3, 2, generator=generator) - 5
    boxes = torch.cat((corners, corners + 24 * torch.rand(80, 3, 2, generator=generator) - 1), dim=2)
    spec: DetectionHeadSpec
    if head == "dense":
        spec = FCOSHeadSpec(head="fcos", levels=("p3", "p4"), **settings)
        levels = torch.arange(80) // 60
        outputs = {"scores": scores[None], "boxes": boxes[None, :, 0], "level": levels}
    else:
        spec = FasterRCNNHeadSpec(head="faster_rcnn", **settings)
        outputs = {"scores": scores, "boxes": boxes, "images": torch.zeros(80, dtype=torch.int64)}
    (expected,) = decode_graph_outputs(spec, outputs, [(32, 40)])
    assert isinstance(expected, BoxPrediction)
    assert 40 < len(expected.scores) <= 50
    found = {f"task.{name}": values.numpy() for name, values in outputs.items()}
    found["task.boxes"] = found["task.boxes"].clip(0, [40, 32, 40, 32])
    model = {"model": {"tasks": {"task": spec.model_dump()}}, "nms": "outside"}
    kept, kept_scores, labels = all_objects("task", found, model)
    assert labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(kept_scores, expected.scores.numpy(), rtol=1e-5)
    np.testing.assert_allclose(kept, expected.boxes_xyxy.numpy(), atol=1e-4)


def model_with(head: str, temperatures: dict[str, float], best: dict[str, float | None]) -> dict[str, Any]:
    return {
        "model": {"tasks": {"task": {"head": head}}},
        "categories": {"task": [{"id": 1, "name": "cell"}, {"id": 2, "name": "plate"}]},
        "temperatures": temperatures,
        "best_thresholds": {"task": best},
        "nms": "inside",
    }


@pytest.mark.parametrize("temperatures", [{}, {"task": 2.0}])
def test_detections_that_are_certain_stay_certain(temperatures: dict[str, float]) -> None:
    outputs = {
        "task.boxes": np.array([[0, 0, 16, 8]], np.float32),
        "task.scores": np.ones(1, np.float32),
        "task.labels": np.array([1]),
    }
    (row,) = detection("task", outputs, model_with("fcos", temperatures, {}))["detections"]
    assert row == {"category_id": 2, "label": "plate", "score": 1.0, "bbox_xywh": [0, 0, 16, 8]}


def test_class_without_a_best_threshold_has_that_of_the_predictor() -> None:
    best = {"cell": 0.2, "plate": None}
    threshold = class_thresholds(best)["plate"]
    outputs = {
        "task.boxes": np.array([[0, 0, 8, 4]] * 2, np.float32),
        "task.scores": np.array([threshold + 0.01, threshold - 0.01]),
        "task.labels": np.array([1, 1]),
    }
    (row,) = detection("task", outputs, model_with("fcos", {}, best))["detections"]
    assert row["score"] == pytest.approx(threshold + 0.01)


@pytest.mark.parametrize("temperatures", [{}, {"task": 2.0}])
@pytest.mark.parametrize("head", ["multiclass", "multilabel"])
def test_classes_that_are_certain_stay_certain(head: str, temperatures: dict[str, float]) -> None:
    outputs = {"task.scores": np.array([[0.0, 1.0]], np.float32)}
    labels = classification("task", outputs, model_with(head, temperatures, {}))["labels"]
    assert [row["label"] for row in labels] == ["plate", "cell"]
    assert labels[0]["score"] == pytest.approx(1, abs=1e-5)
    assert labels[1]["score"] == pytest.approx(0, abs=1e-5)
