"""Costs of errors and calibration as metrics of MLflow."""

import pytest

from pipelines.run.tracked_run import analysis_metrics
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
TRUTH = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cell"}], "annotations": [BOX]}


def test_errors_and_calibration_have_the_numbers_of_result_json():
    found = FoundBoxes.from_rows([BOX | {"score": 0.9}, BOX | {"bbox": [50, 50, 9, 9], "score": 0.95}])
    cells = {"kind": "detection", **score_coco(TRUTH, found)}
    old = {name: cells[name] for name in ("kind", "coco", "per_class")}
    metrics = analysis_metrics({"split": "test", "tasks": {"cells": cells, "old": old}})
    costs = {f"test/cells/errors/{kind}": cost for kind, cost in cells["errors"]["cost"].items()}
    assert metrics == costs | {"test/cells/ece": cells["calibration"]["ece"]}
    assert metrics["test/cells/errors/background"] == pytest.approx(0.5)
