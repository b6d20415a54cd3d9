"""Worst images and suspicious labels of hand-made boxes; costs against pycocotools on the other images."""

import json
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.tasks.detection.scoring.worst_images import worst_images

CATEGORIES = [{"id": 5, "name": "cell"}, {"id": 2, "name": "dust"}]
BEST = {"cell": 0.4, "dust": None}
LEFT, RIGHT, FAR = [0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 20.0, 20.0], [0.0, 60.0, 20.0, 20.0]


def image(number):
    return {"id": number, "file_name": f"{number}.png", "width": 100, "height": 100}


def label(number, image_id, box, category_id=5, **more):
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": box, "area": 400.0, **more}


def found(image_id, box, score, category_id=5):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


TRUTH = {
    "images": [image(n) for n in (3, 1, 2, 4)],
    "categories": CATEGORIES,
    "annotations": [
        label(10, 1, LEFT),
        label(11, 1, RIGHT),
        label(12, 2, LEFT),
        label(13, 2, RIGHT, category_id=2),
        label(14, 3, LEFT),
        label(15, 3, RIGHT, iscrowd=1),
        label(16, 4, LEFT),
        label(17, 4, RIGHT),
    ],
}
RESULTS = [
    found(1, LEFT, 0.9),
    found(1, RIGHT, 0.8),
    found(2, LEFT, 0.7),
    found(2, RIGHT, 0.95),  # dust that is called a cell
    found(2, FAR, 0.85),  # nothing is labeled here
    found(2, [0.0, 62.0, 20.0, 20.0], 0.3),  # below the threshold
    found(3, LEFT, 0.35),  # right, but below the threshold
    found(3, [41.0, 0.0, 20.0, 20.0], 0.9),  # matches a crowd
    found(4, LEFT, 0.6),
    found(4, [5.0, 5.0, 20.0, 20.0], 0.5),  # badly placed
]


def test_errors_and_suspicions_of_each_image_are_those_found_by_hand():
    worst, _ = worst_images(TRUTH, RESULTS, BEST)
    assert worst.thresholds == {"cell": 0.4, "dust": 0.4}  # that of the other classes
    assert (worst.num_images, worst.num_images_with_errors) == (4, 3)
    errors = {
        one.image_id: (
            [missed.annotation_id for missed in one.missed],
            [(wrong.label, wrong.score, wrong.bbox_xywh) for wrong in one.false_positives],
        )
        for one in worst.images
    }
    assert errors == {
        2: ([13], [("cell", 0.95, RIGHT), ("cell", 0.85, FAR)]),
        3: ([14], []),
        4: ([17], [("cell", 0.5, [5.0, 5.0, 20.0, 20.0])]),
    }
    shown = [(one.kind, one.image_id, one.label, one.annotated_label, one.annotation_id) for one in worst.suspicions]
    # The median score of the right cells is 0.7. Label 17 is not found by anything; 13 is found as another class.
    assert shown == [
        ("other_class", 2, "cell", "dust", 13),
        ("unlabeled", 2, "cell", None, None),
        ("not_found", 4, "cell", "cell", 17),
    ]


def average_precision(images):
    coco = COCO()
    ids = {row["id"] for row in images}
    rows = [{"iscrowd": 0, **row} for row in TRUTH["annotations"] if row["image_id"] in ids]
    coco.dataset = {"info": {}, "images": images, "categories": CATEGORIES, "annotations": rows}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes([row for row in RESULTS if row["image_id"] in ids]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_cost_of_an_image_is_the_ap_of_the_others_minus_that_of_all(capsys):
    worst, _ = worst_images(TRUTH, RESULTS, BEST)
    everything = average_precision(TRUTH["images"])
    for one in worst.images:
        others = [row for row in TRUTH["images"] if row["id"] != one.image_id]
        assert one.cost == pytest.approx(average_precision(others) - everything, abs=1e-12)
    capsys.readouterr()
    costs = [one.cost for one in worst.images]
    assert costs == sorted(costs, reverse=True)
    assert worst.images[0].image_id == 2


def test_suspicions_are_a_coco_file_that_other_programs_read(tmp_path, capsys):
    worst, file = worst_images(TRUTH, RESULTS, BEST)
    path = tmp_path / "review.json"
    path.write_text(json.dumps(file))
    coco = COCO(str(path))
    capsys.readouterr()
    assert coco.getImgIds() == [2, 4]
    rows = coco.loadAnns(coco.getAnnIds())
    assert [(row["suspicion"], row["category_id"], row["score"], row["label_id"]) for row in rows] == [
        ("other_class", 5, 0.95, 13),
        ("unlabeled", 5, 0.85, None),
        ("not_found", 5, None, 17),
    ]
    assert [row["bbox"] for row in rows] == [one.bbox_xywh for one in worst.suspicions]


def test_split_without_boxes_or_detections_has_lists_too():
    empty = {**TRUTH, "annotations": []}
    worst, file = worst_images(empty, RESULTS[:1], BEST)
    assert [(one.image_id, one.cost, len(one.false_positives)) for one in worst.images] == [(1, 0.0, 1)]
    assert (worst.suspicions, file["images"]) == ([], [])
    worst, _ = worst_images(TRUTH, [], BEST)
    assert worst.num_images_with_errors == 4
    assert {one.cost for one in worst.images} == {0.0}
    assert [one.kind for one in worst.suspicions] == ["not_found"] * 7
    worst, _ = worst_images({**TRUTH, "images": [], "annotations": []}, [], BEST)
    assert (worst.images, worst.suspicions) == ([], [])


def test_memory_for_an_image_with_many_objects_is_bounded() -> None:
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 8000, (6000, 2)).tolist()
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [x, y, 50.0, 50.0]} for x, y in corners]
    truth = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "tree"}],
        "annotations": [{**box, "id": n, "area": 2500.0, "iscrowd": 0} for n, box in enumerate(boxes[:2000], start=1)],
    }
    found = [{**box, "score": 0.9} for box in boxes]
    tracemalloc.start()
    try:
        worst = worst_images(truth, found, {"tree": 0.5}).worst
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert worst.num_images_with_errors == 1
    assert peak < 150e6
