"""Files of other programs are scored as pycocotools does, or refused with the reason."""

import contextlib
import io
import json

import numpy as np
import pytest

from pipelines.base.errors import DataError
from pipelines.evaluation.coco_files import score_files
from pipelines.tasks.kinds import KINDS
from tests.pipelines.tasks.detection.hard_boxes import nasty_fixture

BOX = [100, 80, 50, 40]


def labels(**changes):
    """Two images of 640x480 with one labeled box each."""
    boxes = [
        {"id": k, "image_id": k, "category_id": k, "bbox": [x + 9 * k for x in BOX], "area": 2000, "iscrowd": 0}
        for k in (1, 2)
    ]
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 640, "height": 480} for k in (1, 2)]
    categories = [{"id": k, "name": f"class {k}"} for k in (1, 2)]
    return {"images": images, "annotations": boxes, "categories": categories} | changes


def one_label(**changes):
    """Two images, of which the first one has a labeled box."""
    truth = labels()
    return truth | {"annotations": [truth["annotations"][0] | changes]}


def found(**changes):
    return {"image_id": 1, "category_id": 1, "bbox": [109, 89, 59, 49], "score": 0.9} | changes


@pytest.fixture
def scored(tmp_path):
    def score(truth, results):
        for name, content in (("A.json", truth), ("P.json", results)):
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text, "utf-8")
        return score_files(tmp_path / "P.json", tmp_path / "A.json")

    return score


@pytest.mark.parametrize("seed", range(2))
def test_numbers_equal_those_of_pycocotools_for_the_same_files(scored, tmp_path, seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ours = scored(*nasty_fixture(seed))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "A.json"))
        oracle = COCOeval(truth, truth.loadRes(str(tmp_path / "P.json")), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    assert list(ours["coco"]) == list(KINDS["detection"].metrics)
    assert [-1 if value is None else value for value in ours["coco"].values()] == pytest.approx(oracle.stats, abs=1e-9)


def test_file_without_detections_scores_0(scored):
    result = scored(labels(), [])
    assert (result["kind"], result["num_images"], result["coco"]["AP"]) == ("detection", 2, 0.0)


NOT_FITTING = [
    (
        found(image_id=7),
        r"P.json: elements\[0\].image_id is 7, which is not among the images of .*A.json \(1, 2\); 1 of 1",
    ),
    (found(category_id=0), r"category_id is 0, which is not among the categories.*counted from 0: add 1"),
    (
        found(category_id=5),
        r"category_id is 5, which is not among the categories of .*A.json \(1, 2\); 1 of 1 are not$",
    ),
    (found(image_id="1.jpg"), r"elements\[0\].image_id is '1.jpg'; it must be a whole number; write a list"),
    (found(image_id=True), r"image_id is True; it must be a whole number"),
    (found(score=float("nan")), r"elements\[0\].score is nan; it must be a finite number"),
    (found(score=None), r"score is None; it must be a finite number"),
    (found(bbox=[1, 2, float("inf"), 4]), r"bbox is \[1, 2, inf, 4\]; it must be a list of four finite numbers"),
    (found(bbox=[1, 2, 3]), r"bbox is \[1, 2, 3\]; it must be a list of four"),
    (found(bbox=["1", 2, 3, 4]), r"bbox is \['1', 2, 3, 4\]; it must be a list of four"),
    (found(bbox=[0, 0, 1e200, 1e200]), r"1e\+200, 1e\+200\]; it must be a list of four finite numbers below 1e\+100"),
    (found(bbox=[10, 10, -5, 5]), r"elements\[0\].bbox \[10, 10, -5, 5\] has a negative side"),
    ({"image_id": 1, "category_id": 1, "score": 0.5}, r"elements\[0\] has no 'bbox'; write a list of"),
    (3, r"elements\[0\] is 3 and no object"),
]


@pytest.mark.parametrize(("row", "message"), NOT_FITTING)
def test_detections_that_do_not_fit_are_refused(scored, row, message):
    with pytest.raises(DataError, match=message):
        scored(labels(), [row])


def test_place_of_the_first_wrong_row_is_named(scored):
    with pytest.raises(
        DataError, match=r"elements\[2\].image_id is 9.*; 2 of 4 are not; are both files of the same split"
    ):
        scored(labels(), [found(), found(), found(image_id=9), found(image_id=9)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], r"They look like \[x1, y1, x2, y2\] in pixels"),
        (lambda x, y, w, h: [x / 640, y / 480, w / 640, h / 480], r"They look like \[x, y, width, height\] in parts"),
    ],
)
def test_boxes_that_are_no_xywh_are_recognized(scored, change, message):
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(150, 350, (40, 2)), rng.uniform(20, 100, (40, 2))
    boxes = [change(*row) for row in np.concatenate([corner, size], axis=1).tolist()]
    with pytest.raises(DataError, match=r"the boxes are not \[x, y, width, height\] in pixels: .*" + message):
        scored(labels(), [found(bbox=box) for box in boxes])


def test_sizes_of_images_are_not_needed(scored):
    truth = labels(images=[{"id": 1}, {"id": 2}])
    assert scored(truth, [found()])["coco"]["AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([], r"A.json: is a list; write a COCO instances file"),
        ({"images": []}, r"A.json: has no list 'annotations'"),
        (labels(categories=[{"id": 1}]), r"categories\[0\] has no 'name'"),
        (labels(images=[{"id": 1}, {"id": 1}]), r"the id 1 occurs more than once in images"),
        (labels(images=[{"id": 1}]), r"annotations\[1\].image_id is 2, which is not among its images \(1\)"),
        (labels(annotations=[{"image_id": 1, "category_id": 1}]), r"annotations\[0\] has no 'bbox'"),
        (labels(categories=[{"id": 1, "name": "\ud800"}]), r"categories\[0\].name is .*; it must be a text in UTF-8"),
        (one_label(area="big"), r"annotations\[0\].area is 'big'; it must be a finite number"),
        (one_label(iscrowd="0"), r"annotations\[0\].iscrowd is '0'; it must be 0 or 1"),
        (one_label(bbox=[9, 9, -5, 5]), r"annotations\[0\].bbox \[9, 9, -5, 5\] has a negative side"),
        ("{", r"A.json: is not valid JSON"),
    ],
)
def test_annotations_that_are_no_instances_file_are_refused(scored, truth, message):
    with pytest.raises(DataError, match=message):
        scored(truth, [])


def test_results_that_are_an_object_are_refused(scored):
    with pytest.raises(DataError, match=r"P.json: is an object; write a list of"):
        scored(labels(), labels())


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"A.json: does not exist"):
        score_files(tmp_path / "P.json", tmp_path / "A.json")
