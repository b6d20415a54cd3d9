"""Confusion, errors, curves and calibration of detections, against other programs and hand-computed cases."""

import hotcoco
import numpy as np
import pytest

from pipelines.tasks.detection.schemas import CURVE_SCORES, DetectionResult
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.detection.scoring.overlaps import PAIRS_AT_A_TIME
from tests.pipelines.tasks.detection.hard_boxes import nasty_fixture

CELL = [0, 0, 10, 10]
SHIFTED = [5, 0, 10, 10]
"""IoU 1/3 with CELL."""


def scored(annotations, results, names=("a", "b"), best=None, num_images=4):
    """Scores of rows (image, class name, box) and (image, class name, box, score); a 4th entry of labels: crowd."""
    ids = {name: 10 * position for position, name in enumerate(names)}
    truth = {
        "images": [{"id": image} for image in range(num_images)],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {"id": k, "image_id": image, "category_id": ids[name], "bbox": box, "iscrowd": int(bool(crowd))}
            for k, (image, name, box, *crowd) in enumerate(annotations)
        ],
    }
    rows = [
        {"image_id": image, "category_id": ids[name], "bbox": box, "score": score}
        for image, name, box, score in results
    ]
    return score_coco(truth, FoundBoxes.from_rows(rows), best)


def iou(first, second):
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right = min(first[0] + first[2], second[0] + second[2])
    bottom = min(first[1] + first[3], second[1] + second[3])
    common = max(0, right - left) * max(0, bottom - top)
    union = first[2] * first[3] + second[2] * second[3] - common
    return common / union if union > 0 else 0.0


def voc_oracle(ground_truth, results, category):
    """AP50 by area and by 11 points, as the loops of VOC's evaluation program compute them."""
    boxes = [box for box in ground_truth["annotations"] if box["category_id"] == category]
    num_true = sum(not box["iscrowd"] for box in boxes)
    found = sorted((row for row in results if row["category_id"] == category), key=lambda row: -row["score"])
    taken, hits = set(), []
    for row in found:
        of_image = [box for box in boxes if box["image_id"] == row["image_id"]]
        best = max(of_image, key=lambda box: iou(box["bbox"], row["bbox"]), default=None)
        if best is None or iou(best["bbox"], row["bbox"]) < 0.5:
            hits.append(0)
        elif not best["iscrowd"]:
            hits.append(int(best["id"] not in taken))
            taken.add(best["id"])
    right = np.cumsum(hits)
    recall, precision = right / num_true, right / np.arange(1, len(hits) + 1)
    points = np.mean([max((p for r, p in zip(recall, precision, strict=True) if r >= t), default=0) for t in
                      (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)])  # fmt: skip
    mrec, mpre = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
    for i in range(len(mpre) - 1, 0, -1):
        mpre[i - 1] = max(mpre[i - 1], mpre[i])
    steps = np.where(mrec[1:] != mrec[:-1])[0]
    return ((mrec[steps + 1] - mrec[steps]) * mpre[steps + 1]).sum(), points


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pairs_at_a_time", [PAIRS_AT_A_TIME, 7])
def test_voc_numbers_equal_those_of_vocs_loops(seed, pairs_at_a_time, monkeypatch):
    monkeypatch.setattr("pipelines.tasks.detection.scoring.overlaps.PAIRS_AT_A_TIME", pairs_at_a_time)
    ground_truth, results = nasty_fixture(seed)
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    means = []
    for row in scores["per_class"]:
        if not row["num_boxes"]:
            assert row["VOC_AP50"] is row["VOC2007_AP50"] is None
            continue
        area, points = voc_oracle(ground_truth, results, row["category_id"])
        assert row["VOC_AP50"] == pytest.approx(area, abs=1e-12)
        assert row["VOC2007_AP50"] == pytest.approx(points, abs=1e-12)
        means.append((area, points))
    assert list(scores["voc"].values()) == pytest.approx(np.mean(means, axis=0).tolist())


def test_detection_of_a_difficult_box_counts_neither_as_right_nor_as_wrong():
    labels = [(0, "a", CELL), (1, "a", CELL, "difficult")]
    found = [(1, "a", CELL, 0.9), (0, "a", CELL, 0.5)]
    (row, _) = scored(labels, found)["per_class"]
    assert (row["num_boxes"], row["VOC_AP50"], row["VOC2007_AP50"]) == (1, 1.0, 1.0)
    (row, _) = scored(labels[:1], found)["per_class"]
    assert (row["VOC_AP50"], row["VOC2007_AP50"]) == (0.5, 0.5)


def confusion_oracle(ground_truth, results, thresholds):
    """Greedy matching over all classes of an image in plain loops, without crowds and detections of them."""
    place = {category["id"]: k for k, category in enumerate(ground_truth["categories"])}
    background = len(place)
    counts = np.zeros((background + 1, background + 1), dtype=int)
    for image in ground_truth["images"]:
        free = [b for b in ground_truth["annotations"] if b["image_id"] == image["id"] and not b["iscrowd"]]
        found = [r for r in results if r["image_id"] == image["id"] and r["score"] > thresholds[r["category_id"]]]
        for row in sorted(found, key=lambda row: -row["score"]):
            best = max(free, key=lambda box: iou(box["bbox"], row["bbox"]), default=None)
            if best is not None and iou(best["bbox"], row["bbox"]) >= 0.5:
                free.remove(best)
                counts[place[best["category_id"]], place[row["category_id"]]] += 1
            else:
                counts[background, place[row["category_id"]]] += 1
        for box in free:
            counts[place[box["category_id"]], background] += 1
    return counts.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrix_equals_that_of_plain_loops(seed):
    ground_truth, results = nasty_fixture(seed)
    rng = np.random.default_rng(seed)
    for box in ground_truth["annotations"]:
        box["iscrowd"] = 0
        box["bbox"] = [float(x) for x in rng.uniform(0, 300, 2)] + [20 + float(x) for x in rng.uniform(0, 90, 2)]
    of_image = {box["image_id"]: box["bbox"] for box in ground_truth["annotations"]}
    for row in results:  # no ties: neither of scores nor of IoU
        row["score"] = float(rng.random())
        near = np.array(of_image.get(row["image_id"], [0, 0, 50, 50])) + rng.normal(0, 9, 4)
        row["bbox"] = [*near[:2].tolist(), *near[2:].clip(5).tolist()]
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    confusion = scores["confusion"]
    names = [row["category_id"] for row in scores["per_class"]]
    assert names != sorted(names)
    assert confusion["counts"] == confusion_oracle(
        ground_truth, results, dict(zip(names, confusion["scores"], strict=True))
    )
    assert sum(map(sum, confusion["counts"])) > 100


def test_confusion_matrix_has_a_row_and_a_column_for_the_background():
    labels = [(0, "a", CELL), (1, "a", CELL), (2, "b", CELL), (2, "b", [100, 0, 50, 50], "crowd")]
    found = [
        (0, "b", CELL, 0.9),  # a box of class a that is taken for b
        (1, "a", CELL, 0.6),
        (3, "a", CELL, 0.55),  # nothing is there
        (2, "b", [110, 10, 10, 10], 0.9),  # in a crowd
        (3, "a", CELL, 0.5),  # not above the threshold
    ]
    confusion = scored(labels, found, best={"a": 0.5, "b": None})["confusion"]
    assert confusion == {"iou": 0.5, "scores": [0.5, 0.5], "counts": [[1, 1, 0], [0, 0, 1], [1, 0, 0]]}


PERFECT = [(3, "b", CELL)], [(3, "b", CELL, 0.9)]
TWO = [(0, "a", CELL), (1, "a", CELL)]
AFTER_AN_ERROR = (51 + 50 * 2 / 3) / 101
"""AP of: right, wrong, right, with two boxes."""

ERRORS = {
    "classification": ([(0, "a", CELL)], [(0, "b", CELL, 0.5)], 0.0, 1.0),
    "localization": ([(0, "a", CELL)], [(0, "a", SHIFTED, 0.5)], 0.0, 1.0),
    "classification_and_localization": (
        [*TWO, (2, "b", CELL)],
        [(0, "a", CELL, 0.9), (2, "a", SHIFTED, 0.8), (1, "a", CELL, 0.7), (2, "b", CELL, 0.95)],
        AFTER_AN_ERROR,
        1.0,
    ),
    "duplicate": (
        TWO,
        [(0, "a", CELL, 0.9), (0, "a", [1, 0, 10, 10], 0.8), (1, "a", CELL, 0.7)],
        AFTER_AN_ERROR,
        1.0,
    ),
    "background": (TWO, [(0, "a", CELL, 0.9), (2, "a", CELL, 0.8), (1, "a", CELL, 0.7)], AFTER_AN_ERROR, 1.0),
    "missed": (TWO, [(0, "a", CELL, 0.9)], 51 / 101, 1.0),
}
"""Labels and detections with one error, and AP50 of class a with and without it; class b stays perfect."""


@pytest.mark.parametrize("kind", ERRORS)
def test_cost_of_an_error_is_the_ap_that_its_correction_gains(kind):
    labels, found, with_error, without = ERRORS[kind]
    errors = scored(labels + PERFECT[0], found + PERFECT[1])["errors"]
    assert errors["count"] == dict.fromkeys(ERRORS, 0) | {kind: 1}
    assert errors["AP50"] == pytest.approx((with_error + 1) / 2)
    assert errors["cost"][kind] == pytest.approx((without - with_error) / 2)
    others = [cost for name, cost in errors["cost"].items() if name not in (kind, "all_false_positives")]
    assert others == pytest.approx([0] * len(others))


def test_detection_that_touches_a_crowd_shows_background():
    labels = [(0, "a", CELL), (1, "a", CELL, "crowd")]
    errors = scored(labels, [(0, "a", CELL, 0.9), (1, "a", [7, 0, 10, 10], 0.95)])["errors"]
    assert errors["count"] == dict.fromkeys(ERRORS, 0) | {"background": 1}
    assert errors["AP50"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(2))
def test_curves_over_the_score_count_the_detections_above_it(seed):
    ground_truth, results = nasty_fixture(seed)
    for box in ground_truth["annotations"]:
        box["iscrowd"] = 0
    scores = score_coco(ground_truth, FoundBoxes.from_rows(results))
    for row in [*scores["per_class"], scores]:
        category = row.get("category_id")
        for place, score in enumerate(CURVE_SCORES):
            above = [r for r in results if r["score"] > score and category in (None, r["category_id"])]
            kept = score_coco(ground_truth, FoundBoxes.from_rows(above))["calibration"]["bins"] if above else []
            precision, recall, f1 = (row["at_score"][name][place] for name in ("precision", "recall", "f1"))
            assert (precision is None) == (not above)
            if category is None and above:
                right = sum(b["count"] * b["accuracy"] for b in kept if b["count"])
                assert precision == pytest.approx(right / len(above), abs=1e-4)
                assert recall == pytest.approx(right / len(ground_truth["annotations"]), abs=1e-4)
            if precision and recall:
                assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=3e-4)


def test_curves_of_a_hand_computed_case():
    labels = [(0, "a", CELL), (1, "a", CELL)]
    found = [(0, "a", CELL, 0.9), (1, "a", SHIFTED, 0.5), (2, "a", CELL, 0.25)]
    curves = scored(labels, found)["per_class"][0]["at_score"]
    at = [CURVE_SCORES.index(score) for score in (0.0, 0.25, 0.5, 0.9)]
    assert [curves["precision"][k] for k in at] == [0.3333, 0.5, 1.0, None]
    assert [curves["recall"][k] for k in at] == [0.5, 0.5, 0.5, 0.0]
    assert [curves["f1"][k] for k in at] == [0.4, 0.5, 0.6667, 0.0]


@pytest.mark.parametrize("seed", range(2))
def test_calibration_error_equals_that_of_hotcoco(seed):
    ground_truth, results = nasty_fixture(seed)
    rng = np.random.default_rng(seed)
    for row in results:
        row["score"] = float(rng.random())
    results = results[:400]
    ids = {image["id"]: rank for rank, image in enumerate(ground_truth["images"], start=1)}
    truth = {
        **ground_truth,
        "images": [{"id": rank} for rank in ids.values()],
        "annotations": [{**box, "image_id": ids[box["image_id"]]} for box in ground_truth["annotations"]],
    }
    found = [{**row, "image_id": ids[row["image_id"]]} for row in results]
    theirs = hotcoco.COCO(truth)
    evaluation = hotcoco.COCOeval(theirs, theirs.load_res(found), "bbox")
    evaluation.evaluate()
    scores = score_coco(truth, FoundBoxes.from_rows(found))
    expected = evaluation.calibration(n_bins=15, iou_threshold=0.5)
    assert scores["calibration"]["ece"] == pytest.approx(expected["ece"], abs=1e-12)
    assert [row["count"] for row in scores["calibration"]["bins"]] == [row["count"] for row in expected["bins"]]
    for row in scores["per_class"]:
        if row["ece"] is not None:
            assert row["ece"] == pytest.approx(expected["per_category"][row["label"]], abs=1e-12)


def test_scores_that_are_no_probabilities_have_no_calibration():
    scores = scored([(0, "a", CELL)], [(0, "a", CELL, 7.5)])
    assert scores["calibration"] is scores["per_class"][0]["ece"] is None
    assert scores["coco"]["AP"] == pytest.approx(1.0)


def test_result_of_a_hard_fixture_is_valid_and_small():
    ground_truth, results = nasty_fixture(0)
    document = {"kind": "detection", "num_images": 24, **score_coco(ground_truth, FoundBoxes.from_rows(results))}
    assert len(DetectionResult.model_validate(document).model_dump_json()) < 12_000


def test_result_of_an_earlier_version_can_still_be_read():
    numbers = score_coco(*_empty())
    row = {"category_id": 1, "label": "a", "num_boxes": 0, "AP": None, "AP50": None, "precision_at_recall": None}
    document = {"kind": "detection", "num_images": 1, "coco": numbers["coco"], "per_class": [row]}
    assert DetectionResult.model_validate(document).errors is None


def test_without_ground_truth_there_are_no_analyses():
    result = DetectionResult.model_validate({"kind": "detection", "num_images": 1, **score_coco(*_empty())})
    assert (result.voc, result.confusion, result.errors, result.calibration) == (None,) * 4
    only_crowds = scored([(0, "a", CELL, "crowd")], [(0, "a", CELL, 0.5)])
    assert only_crowds["errors"] is None
    assert only_crowds["confusion"]["counts"] == [[0, 0, 0]] * 3
    DetectionResult.model_validate({"kind": "detection", "num_images": 1, **only_crowds})


def _empty():
    truth = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    return truth, FoundBoxes.from_rows([])
