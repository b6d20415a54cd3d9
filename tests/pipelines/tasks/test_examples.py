"""The functions of the program beside an exported graph that make the answers of a task."""

from typing import Any

import numpy as np
import pytest
import torch

from heads.base import BoxPrediction
from heads.create import decode_graph_outputs
from heads.detection_spec import DetectionHeadSpec, FasterRCNNHeadSpec, FCOSHeadSpec
from pipelines.tasks.class_thresholds import class_thresholds
from pipelines.tasks.classification import example as classification
from pipelines.tasks.detection import example as detection

CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 2, "name": "plate"}]


def model(head: str, temperatures: dict[str, float]) -> dict[str, Any]:
    return {
        "model": {"tasks": {"task": {"head": head}}},
        "categories": {"task": CATEGORIES},
        "temperatures": temperatures,
        "best_thresholds": {},
    }


@pytest.mark.parametrize("temperatures", [{}, {"task": 2.0}])
def test_detections_that_are_certain_stay_certain(temperatures: dict[str, float]) -> None:
    names: dict[str, Any] = {"np": np, "MODEL": model("fcos", temperatures)}
    exec(detection.NMS_INSIDE + detection.ANSWER, names)
    found = {
        "boxes": np.array([[0, 0, 8, 4]], np.float32),
        "scores": np.ones(1, np.float32),
        "labels": np.array([1]),
    }
    (row,) = names["detection"]("task", found, (32, 32), (0.5, 0.5))["detections"]
    assert row == {"label": "plate", "score": 1.0, "bbox_xywh": [0, 0, 16, 8]}


def test_class_without_a_best_threshold_has_that_of_the_predictor() -> None:
    best = {"cell": 0.2, "plate": None}
    names: dict[str, Any] = {"np": np, "MODEL": {**model("fcos", {}), "best_thresholds": {"task": best}}}
    exec(detection.NMS_INSIDE + detection.ANSWER, names)
    scores = np.array([class_thresholds(best)["plate"] + 0.01, class_thresholds(best)["plate"] - 0.01])
    found = {"boxes": np.array([[0, 0, 8, 4]] * 2, np.float32), "scores": scores, "labels": np.array([1, 1])}
    (row,) = names["detection"]("task", found, (32, 32), (1.0, 1.0))["detections"]
    assert row["score"] == pytest.approx(scores[0])


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("head", ["dense", "two-stage"])
def test_detections_selected_by_the_program_are_those_of_the_head(head: str, sigma: float | None) -> None:
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
    names: dict[str, Any] = {"np": np}
    exec(detection.NMS_OUTSIDE, names)
    found = {name: values.numpy() for name, values in outputs.items()}
    kept, kept_scores, labels = names["select"](found, spec.model_dump(), (32, 40))
    assert labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(kept_scores, expected.scores.numpy(), rtol=1e-5)
    np.testing.assert_allclose(kept, expected.boxes_xyxy.numpy(), atol=1e-4)


@pytest.mark.parametrize("temperatures", [{}, {"task": 2.0}])
@pytest.mark.parametrize("head", ["multiclass", "multilabel"])
def test_classes_that_are_certain_stay_certain(head: str, temperatures: dict[str, float]) -> None:
    names: dict[str, Any] = {"np": np, "MODEL": model(head, temperatures)}
    exec(classification.ANSWER, names)
    found = {"scores": np.array([[0.0, 1.0]], np.float32)}
    labels = names["classification"]("task", found, (32, 32), (1.0, 1.0))["labels"]
    assert [row["label"] for row in labels] == ["plate", "cell"]
    assert labels[0]["score"] == pytest.approx(1, abs=1e-5)
    assert labels[1]["score"] == pytest.approx(0, abs=1e-5)
