"""The functions of the program beside an exported graph that make the answers of a task."""

from typing import Any

import numpy as np
import pytest

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
