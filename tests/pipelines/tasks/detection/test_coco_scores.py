"""Detection numbers against pycocotools, and cases where it has no number."""

import copy
import json
import time

import numpy as np
import pytest

from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.kinds import KINDS
from tests.pipelines.tasks.detection.hard_boxes import nasty_fixture

NUMBERS = KINDS["detection"].metrics


def pycocotools_evaluation(ground_truth, results, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = copy.deepcopy(ground_truth)
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    return evaluation


def assert_same(ours, oracle):
    assert (ours is None) == (oracle < 0)
    assert ours is None or abs(ours - oracle) < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_all_numbers_equal_those_of_pycocotools_on_a_hard_fixture(seed, capsys):
    ground_truth, results = nasty_fixture(seed)
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    oracle = pycocotools_evaluation(ground_truth, results, capsys)
    assert list(scores["coco"]) == list(NUMBERS)
    for name, expected in zip(NUMBERS, oracle.stats, strict=True):
        assert_same(scores["coco"][name], expected)
    assert 0.02 < scores["coco"]["AP"] < 0.98
    rank = {category: k for k, category in enumerate(sorted(c["id"] for c in ground_truth["categories"]))}
    for row in scores["per_class"]:
        precision = oracle.eval["precision"][:, :, rank[row["category_id"]], 0, 2]
        assert_same(row["AP"], precision.mean())
        assert_same(row["AP50"], precision[0].mean())
        if row["precision_at_recall"] is not None:
            np.testing.assert_allclose(row["precision_at_recall"], precision[0, ::5], atol=1e-9)


def test_hard_fixture_has_all_the_cases_that_it_names():
    ground_truth, results = nasty_fixture(0)
    boxes, images = ground_truth["annotations"], {image["id"] for image in ground_truth["images"]}
    areas = {box["area"] for box in boxes}
    pairs = [(row["image_id"], row["category_id"]) for row in results]
    assert {32.0**2, 96.0**2} <= areas
    assert any(box["iscrowd"] for box in boxes)
    assert images - {box["image_id"] for box in boxes}
    assert images - {row["image_id"] for row in results}
    assert max(pairs.count(pair) for pair in set(pairs)) > 100
    assert len({row["score"] for row in results}) < 12
    assert len({box["category_id"] for box in boxes}) < len(ground_truth["categories"])
    assert {box["category_id"] for box in boxes} - {row["category_id"] for row in results}


def test_scores_that_differ_only_beyond_float32_are_not_ties(capsys):
    ground_truth, results = nasty_fixture(11)
    for number, row in enumerate(results):
        row["score"] += 1e-12 * ((number * 7919) % len(results))
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    oracle = pycocotools_evaluation(ground_truth, results, capsys)
    for name, expected in zip(NUMBERS, oracle.stats, strict=True):
        assert_same(scores["coco"][name], expected)


def test_neither_the_ground_truth_nor_the_results_are_changed():
    ground_truth, results = nasty_fixture(0)
    before = json.dumps([ground_truth, results])
    score_coco(ground_truth, FoundBoxes.from_rows(results))
    assert json.dumps([ground_truth, results]) == before


def test_perfect_detector_has_ap_1_and_undefined_numbers_for_missing_sizes():
    ground_truth = {
        "images": [{"id": 5}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0},
        ],
        "categories": [{"id": 2, "name": "cell"}, {"id": 4, "name": "never there"}],
    }
    row = {"image_id": 5, "category_id": 2, "bbox": [0, 0, 50, 50], "score": 0.5}
    scores = score_coco(ground_truth, FoundBoxes.from_rows([row]))
    one = {"AP", "AP50", "AP75", "APm", "AR1", "AR10", "AR100", "ARm"}
    for name in NUMBERS:
        assert scores["coco"][name] == (pytest.approx(1.0) if name in one else None)
    there, absent = scores["per_class"]
    assert (there["label"], there["num_boxes"]) == ("cell", 1)
    assert there["precision_at_recall"] == pytest.approx([1.0] * 21)
    assert (absent["category_id"], absent["label"], absent["num_boxes"]) == (4, "never there", 0)
    assert all(absent[name] is None for name in ("AP", "AP50", "APs", "precision_at_recall", "best_threshold"))


def test_classes_with_ground_truth_score_0_without_detections():
    ground_truth, _ = nasty_fixture(1)
    scores = score_coco(ground_truth, FoundBoxes.from_rows([]))
    assert all(scores["coco"][name] == 0 for name in NUMBERS)
    for row in scores["per_class"]:
        assert row["AP"] == (0 if row["num_boxes"] else None)


@pytest.mark.parametrize("with_results", [True, False])
def test_all_numbers_are_undefined_without_ground_truth(with_results):
    ground_truth, results = nasty_fixture(1)
    ground_truth["annotations"] = []
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results if with_results else []))
    assert set(scores["coco"].values()) == {None}
    assert all(row["AP"] is None and row["num_boxes"] == 0 for row in scores["per_class"])


def test_only_crowd_regions_are_no_ground_truth():
    ground_truth, results = nasty_fixture(1)
    for box in ground_truth["annotations"]:
        box["iscrowd"] = 1
    assert set(score_coco(ground_truth, FoundBoxes.from_rows(results))["coco"].values()) == {None}


def test_image_that_occurs_twice_is_rejected():
    ground_truth, results = nasty_fixture(0)
    ground_truth["images"].append(ground_truth["images"][3])
    with pytest.raises(ValueError, match=rf"image ids \[{ground_truth['images'][3]['id']}\] occur more than once"):
        score_coco(ground_truth, FoundBoxes.from_rows(results))


def test_result_of_an_unknown_image_or_category_is_rejected():
    ground_truth, results = nasty_fixture(0)
    for key in ("image_id", "category_id"):
        with pytest.raises(ValueError, match="which the ground truth does not have"):
            score_coco(ground_truth, FoundBoxes.from_rows([{**results[0], key: 424242}]))


def test_500_images_with_100_detections_each_are_scored_in_seconds():
    rng = np.random.default_rng(0)
    boxes = np.round(
        np.concatenate([rng.uniform(0, 400, (50_000, 2)), rng.uniform(5, 200, (50_000, 2))], 1), 1
    ).tolist()
    labels = rng.integers(1, 21, 50_000).tolist()
    rows = [
        {"image_id": i // 100, "category_id": label, "bbox": box}
        for i, (label, box) in enumerate(zip(labels, boxes, strict=True))
    ]
    ground_truth = {
        "images": [{"id": i} for i in range(500)],
        "categories": [{"id": i, "name": str(i)} for i in range(1, 21)],
        "annotations": [row | {"id": i, "area": 400.0, "iscrowd": 0} for i, row in enumerate(rows[::10])],
    }
    results = [row | {"score": score} for row, score in zip(rows, rng.random(50_000).tolist(), strict=True)]
    start = time.process_time()
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    assert time.process_time() - start < 10  # 1.0 s on a 2-core Xeon
    assert scores["coco"]["AR100"] == pytest.approx(1.0)


@pytest.mark.parametrize("area", [{"area": 0}, {"area": -1}, {"area": float("nan")}, {"area": None}, {}])
def test_box_without_a_valid_area_counts_by_width_times_height(area):
    box = {"image_id": 5, "category_id": 2, "bbox": [20, 20, 200, 200]}
    ground_truth = {
        "images": [{"id": 5}], "annotations": [{"id": 1} | box | area], "categories": [{"id": 2, "name": "cell"}],
    }  # fmt: skip
    numbers = score_coco(ground_truth, FoundBoxes.from_rows([box | {"score": 0.9}]))["coco"]
    assert (numbers["APs"], numbers["APl"]) == (None, pytest.approx(1.0))
