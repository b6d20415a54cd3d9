"""Matches of boxes against pycocotools' on fixtures with everything that scorers disagree on."""

import copy

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.tasks.detection.scoring.box_matching import AREA_RANGES
from pipelines.tasks.detection.scoring.resampling import ScoredDetections
from pipelines.tasks.kinds import KINDS
from tests.pipelines.tasks.detection.hard_boxes import nasty_fixture


def pycocotools_evaluation(truth, results):
    """Return an evaluation whose ids of boxes and detections are their positions plus 1."""
    coco = COCO()
    rows = [{**row, "id": number} for number, row in enumerate(truth["annotations"], start=1)]
    coco.dataset = {**copy.deepcopy(truth), "annotations": rows}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(6))
def test_matches_and_numbers_are_those_of_pycocotools(seed, capsys):
    truth, results = nasty_fixture(seed)
    scored = ScoredDetections(truth, results)
    oracle = pycocotools_evaluation(truth, results)
    capsys.readouterr()
    scores = scored.scores(np.ones((1, len(scored.images))))
    for name, expected in zip(KINDS["detection"].metrics, oracle.stats, strict=True):
        ours = scores.metrics[name][0]
        assert np.isnan(ours) if expected < 0 else ours == pytest.approx(expected, abs=1e-9)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    areas = {tuple(limits): area for area, limits in AREA_RANGES.items()}
    for row in filter(None, oracle.evalImgs):
        area = next(name for limits, name in areas.items() if limits == pytest.approx(tuple(row["aRng"])))
        matches = scored.matches[names[row["category_id"]], area]
        ours = {
            number: (matches.matched[:, k] + 1, matches.is_counted[:, k])
            for k, number in enumerate((matches.detections + 1).tolist())
        }
        for k, number in enumerate(row["dtIds"]):
            box, is_counted = ours[number]
            assert box.tolist() == row["dtMatches"][:, k].astype(int).tolist()
            assert is_counted.tolist() == (~row["dtIgnore"][:, k].astype(bool)).tolist()


def test_detections_of_unknown_images_or_categories_are_an_error():
    truth, results = nasty_fixture(0)
    for field in ("image_id", "category_id"):
        with pytest.raises(ValueError, match="the ground truth does not have"):
            ScoredDetections(truth, [{**results[0], field: 12345}])
