"""Analyses of a task over REST have the numbers of result.json."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.spec.result import RunResult
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from service.settings import Settings

BOXES = [
    {"id": k, "image_id": 1, "category_id": 1 + k % 2, "bbox": [50 * k, 0, 20 + 10 * k, 20], "iscrowd": 0}
    for k in range(6)
]
TRUTH = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "annotations": BOXES}
FOUND = [{**row, "score": 0.3 + 0.1 * k, "category_id": 1} for k, row in enumerate(BOXES)]
CLASS = {"category_id": 1, "label": "in", "support": 4, "precision": 0.5, "recall": 0.5, "f1": 0.5, "ap": 0.5}
ANALYSES = ("curves", "confusion", "errors", "calibration")


def classified(matrix: list[list[int]] | None, **of_class: Any) -> dict[str, Any]:
    """The entry of a classification task with one class."""
    row = {**CLASS, "top1_support": 4, "top1_recall": None, **of_class}
    names = ("accuracy", "balanced_accuracy", "macro_f1", "mAP", "top1_macro_recall")
    empty = dict.fromkeys(names)
    return {"kind": "classification", "num_images": 4, **empty, "per_class": [row], "confusion_matrix": matrix}


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """A result.json with a detection task and two classification tasks on test, and fewer detections on val."""

    def boxes(found: list[dict[str, Any]]) -> dict[str, Any]:
        scores = score_coco(TRUTH, FoundBoxes.from_rows(found))
        return {"kind": "detection", "num_images": 1, **scores}

    calibration = {"ece": 0.25, "bins": [{"count": 4, "confidence": 0.75, "accuracy": 0.5}]}
    kind = {
        **classified([[4]], ece=0.25, precision_at_recall=[1.0, 0.5], recall_at_fpr=[0.5, 1.0]),
        "calibration": calibration,
    }
    document = {
        "split": "test",
        "select": {"metric": "val/boxes/AP", "mode": "max", "value": 0.5},
        "summary": {},
        "tasks": {"boxes": boxes(FOUND), "kind": kind, "marks": classified(None, confusion=[[1, 2], [3, 4]])},
        "val": {"summary": {}, "tasks": {"boxes": boxes(FOUND[:2])}},
        "model": {},
        "timing": {},
        "versions": {},
    }
    content: dict[str, Any] = RunResult.model_validate(document).model_dump(mode="json")
    return content


@pytest.fixture
def job(shared_api: httpx2.Client, document: dict[str, Any], shared_settings: Settings, result: dict[str, Any]) -> str:
    """A job with this result."""
    job_id = str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])
    write(shared_settings.run_dir(job_id), result)
    return job_id


def write(folder: Path, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result), "utf-8")


def get(api: httpx2.Client, job: str, path: str) -> dict[str, Any]:
    answer = api.get(f"/v1/jobs/{job}/results/{path}")
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_analyses_of_detections_have_the_numbers_of_result_json(
    shared_api: httpx2.Client, job: str, result: dict[str, Any]
) -> None:
    entry = result["tasks"]["boxes"]
    facts = {"task": "boxes", "kind": "detection", "split": "test"}
    found = {name: get(shared_api, job, f"boxes/{name}") for name in ANALYSES}
    for answer in found.values():
        assert {name: answer[name] for name in facts} == facts
    assert found["errors"]["errors"] == entry["errors"]
    assert found["calibration"]["calibration"] == entry["calibration"]
    assert [row["ece"] for row in found["calibration"]["per_class"]] == [row["ece"] for row in entry["per_class"]]
    assert found["confusion"]["labels"] == ["a", "b", "background"]
    assert {name: found["confusion"][name] for name in ("iou", "scores", "counts")} == entry["confusion"]
    assert found["curves"]["at_score"] == entry["at_score"]
    assert len(found["curves"]["scores"]) == len(entry["at_score"]["f1"])
    whole = get(shared_api, job, "boxes")
    assert ({name: whole[name] for name in facts}, whole["result"]) == (facts, entry)
    for row, of_class in zip(found["curves"]["per_class"], entry["per_class"], strict=True):
        assert {name: row[name] for name in ("label", "at_score", "precision_at_recall")} == {
            name: of_class[name] for name in ("label", "at_score", "precision_at_recall")
        }


def test_analyses_of_classes_have_the_numbers_of_result_json(shared_api: httpx2.Client, job: str) -> None:
    confusion = get(shared_api, job, "kind/confusion")
    assert (confusion["labels"], confusion["counts"], confusion["per_class"]) == (["in"], [[4]], [])
    (row,) = get(shared_api, job, "kind/curves")["per_class"]
    assert (row["precision_at_recall"], row["recall_at_fpr"]) == ([1.0, 0.5], [0.5, 1.0])
    assert get(shared_api, job, "kind/calibration")["calibration"]["ece"] == 0.25
    multilabel = get(shared_api, job, "marks/confusion")
    assert multilabel["counts"] is None
    assert multilabel["per_class"] == [{"label": "in", "counts": [[1, 2], [3, 4]]}]


def test_other_split_can_be_chosen(shared_api: httpx2.Client, job: str, result: dict[str, Any]) -> None:
    on_val = get(shared_api, job, "boxes/errors?split=val")
    assert (on_val["split"], on_val["errors"]) == ("val", result["val"]["tasks"]["boxes"]["errors"])
    assert on_val["errors"] != result["tasks"]["boxes"]["errors"]
    assert get(shared_api, job, "boxes/errors?split=test")["errors"] == result["tasks"]["boxes"]["errors"]


def test_unchanged_analysis_is_not_sent_again(shared_api: httpx2.Client, job: str) -> None:
    answer = shared_api.get(f"/v1/jobs/{job}/results/boxes/errors")
    again = shared_api.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("other/errors", "has the tasks boxes, kind, marks, but not 'other'"),
        ("kind/errors", "the classification task 'kind' has no errors (it has: curves, confusion, calibration)"),
        ("kind/errors?split=val", "has the tasks boxes, but not 'kind'"),
        ("marks/calibration", "the classification task 'marks' has no calibration (it has: confusion)"),
    ],
)
def test_missing_analysis_is_404_with_what_exists(shared_api: httpx2.Client, job: str, path: str, detail: str) -> None:
    answer = shared_api.get(f"/v1/jobs/{job}/results/{path}")
    assert answer.status_code == 404
    assert detail in answer.json()["detail"]


def test_results_of_an_earlier_version_have_curves_only(
    shared_api: httpx2.Client, job: str, shared_settings: Settings, result: dict[str, Any]
) -> None:
    added = ("voc", "at_score", "confusion", "errors", "calibration")
    of_class = ("APs", "APm", "APl", "VOC_AP50", "VOC2007_AP50", "ece", "at_score")
    entry = {name: value for name, value in result["tasks"]["boxes"].items() if name not in added}
    entry["per_class"] = [
        {name: value for name, value in row.items() if name not in of_class} for row in entry["per_class"]
    ]
    write(shared_settings.run_dir(job), {**result, "tasks": {"boxes": entry}, "val": None})
    curves = get(shared_api, job, "boxes/curves")
    assert (curves["scores"], curves["per_class"][0]["at_score"]) == (None, None)
    assert curves["per_class"][0]["precision_at_recall"] == entry["per_class"][0]["precision_at_recall"]
    answer = shared_api.get(f"/v1/jobs/{job}/results/boxes/errors")
    assert answer.status_code == 404
    assert "results of earlier versions" in answer.json()["detail"]
    without = shared_api.get(f"/v1/jobs/{job}/results/boxes/errors?split=val")
    assert (without.status_code, "was not scored on val" in without.json()["detail"]) == (404, True)


def test_job_without_results_has_no_analyses(shared_api: httpx2.Client, document: dict[str, Any]) -> None:
    job = shared_api.post("/v1/jobs", json={"config": document}).json()["id"]
    answer = shared_api.get(f"/v1/jobs/{job}/results/boxes/errors")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"job {job} is queued and has no results")
