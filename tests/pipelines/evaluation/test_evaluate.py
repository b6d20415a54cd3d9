"""From predictions and labels to the scores of each task."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from pipelines.base.errors import ConfigError, NumericsError
from pipelines.base.records import BoxLabel, Category, ImageRecord
from pipelines.evaluation.evaluate import Gallery, evaluate_task
from pipelines.evaluation.metric_names import selection, summarize, summary_keys
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.spec.model import ModelSpec
from pipelines.spec.result import RunResult
from pipelines.tasks.classification.tensors.class_scores import ClassScores
from pipelines.tasks.detection.tensors.detections import Detections
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.kinds import kind_of

TASKS = ("cells", "kind", "lookup", "marks", "scene")


@pytest.mark.parametrize("name", TASKS)
def test_scores_depend_neither_on_the_order_of_predictions_nor_on_pickling(
    name, records, predictions, tasks, evaluate, gallery
):
    backwards = Gallery(gallery.records, gallery.predictions[::-1])
    shuffled = [predictions[i] for i in np.random.default_rng(0).permutation(len(predictions))]
    assert evaluate(name, records, pickle.loads(pickle.dumps(shuffled)), backwards) == tasks[name]


@pytest.mark.parametrize("name", ["kind", "marks", "lookup", "scene"])
def test_predictions_of_unlabeled_images_change_nothing(name, records, predictions, tasks, evaluate, gallery):
    labeled_ids = {record.image_id for record in records if name in record.labels}
    labeled = [prediction for prediction in predictions if prediction.image_id in labeled_ids]
    assert 0 < len(labeled) < len(predictions)
    assert tasks[name]["num_images"] == len(labeled)
    assert evaluate(name, records, labeled, gallery) == tasks[name]


def test_scores_have_only_plain_types_so_that_a_checkpoint_can_hold_them(tasks):
    def types(value):
        if isinstance(value, dict | list):
            yield from (t for v in (value.values() if isinstance(value, dict) else value) for t in types(v))
        else:
            yield type(value)

    assert set(types(tasks)) <= {int, float, str, type(None)}


def test_image_predicted_twice_is_rejected(records, predictions, evaluate):
    with pytest.raises(ValueError, match="images 1003 occur more than once"):
        evaluate("cells", records, [*predictions, predictions[3]])


def test_labeled_image_without_a_prediction_is_rejected(records, predictions, evaluate):
    with pytest.raises(ValueError, match="images 1001 are labeled for task 'cells' but were not predicted"):
        evaluate("cells", records, [p for p in predictions if p.image_id != 1001])


def test_prediction_of_an_unknown_image_is_rejected(records, predictions, evaluate):
    with pytest.raises(ValueError, match="images 5 are not in the data"):
        evaluate("cells", records, [*predictions, ImagePredictions(5, predictions[0].tasks)])


def test_record_that_occurs_twice_is_rejected(records, predictions, evaluate):
    with pytest.raises(ValueError, match="records: 1 image ids occur more than once"):
        evaluate("cells", [*records, records[0]], predictions)


def test_prediction_of_another_kind_is_rejected(records, predictions, evaluate):
    mixed = [ImagePredictions(p.image_id, {"cells": p.tasks["kind"]}) for p in predictions]
    with pytest.raises(ValueError, match="got ClassScores for image 1000; it needs Detections"):
        evaluate("cells", records, mixed)


def test_numbers_that_are_not_finite_are_reported_with_task_and_image(records, predictions, evaluate):
    broken = ClassScores(np.array([np.nan, 0.5], dtype=np.float32))
    mixed = [
        ImagePredictions(p.image_id, {"kind": broken if p.image_id == 1002 else p.tasks["kind"]}) for p in predictions
    ]
    message = r"task 'kind': the prediction of image 1002 \(folder/002 é.jpg\) is not finite; .*model\.optimizer\.lr"
    with pytest.raises(NumericsError, match=message):
        evaluate("kind", records, mixed)


def test_shapes_that_do_not_fit_are_rejected():
    with pytest.raises(ValueError, match=r"scores: got the shape \(2,\); it must be \(1,\)"):
        Detections(np.zeros((1, 4)), np.zeros(2), np.zeros(1, dtype=np.int64))


def test_label_that_is_not_a_category_of_the_task_is_rejected(records, predictions, model):
    unknown = [Category(1, "x"), Category(3, "outdoor"), Category(4, "y")]
    with pytest.raises(ValueError, match=r"annotation 101 of folder/001 é\.jpg has the category '(red|white)'"):
        evaluate_task("cells", model.tasks["cells"], unknown, records, predictions)
    with pytest.raises(ValueError, match=r"folder/002 é\.jpg has the class 'indoor'"):
        evaluate_task("kind", model.tasks["kind"], unknown[:2], records, predictions)


def test_detected_label_beyond_the_categories_is_rejected(records, predictions, model, categories):
    with pytest.raises(ValueError, match="labels must be positions below 2; got 2"):
        evaluate_task("cells", model.tasks["cells"], categories["cells"][:2], records, predictions)


def test_difficult_objects_are_ignored_in_scoring(evaluate):
    boxes = [BoxLabel(n, "red", (50.0 * n, 0.0, 40.0, 40.0), is_difficult=n == 2, identity="A") for n in (1, 2)]
    record = ImageRecord(1, "plates", "test", "x.jpg", Path("x.jpg"), 200, 200, {"cells": boxes, "lookup": boxes})
    xyxy = np.array([[50, 0, 90, 40], [100, 0, 140, 40]], dtype=np.float32)
    found = Detections(xyxy, np.array([0.5, 0.9], dtype=np.float32), np.zeros(2, dtype=np.int64))
    vectors = Embeddings(np.eye(2, dtype=np.float32), xyxy, np.array([1, 2]))
    predictions = [ImagePredictions(1, {"cells": found, "lookup": vectors})]
    scores = evaluate("cells", [record], predictions)
    assert scores["coco"]["AP"] == pytest.approx(1.0)
    assert scores["per_class"][0]["num_boxes"] == 1
    assert evaluate("lookup", [record], predictions)["num_left_out"] == 1


@pytest.mark.parametrize("name", TASKS)
def test_no_labeled_image_leaves_every_metric_undefined(name, records, predictions, evaluate):
    bare = [ImageRecord(r.image_id, r.source, r.split, r.file_name, r.path) for r in records]
    result = evaluate(name, bare, predictions, Gallery([], []))
    TypeAdapter(RunResult.model_fields["tasks"].annotation).validate_python({name: result})
    assert set(summarize("test", {name: result}).values()) == {None}


def test_objects_are_scored_by_the_identities_of_their_labels_without_crowd(records, predictions, tasks, evaluate):
    known = [
        label
        for record in records
        for label in record.labels.get("lookup", [])
        if isinstance(label, BoxLabel) and label.identity and not label.is_crowd
    ]
    result = tasks["lookup"]
    assert result["num_queries"] == result["num_gallery"] == len(known)
    assert {row["identity"] for row in result["per_class"]} == {"A", "B"}
    assert result["recall_at_1"] > 0.8
    named = [
        ImagePredictions(
            p.image_id,
            {
                "lookup": Embeddings(
                    e.embeddings, e.boxes_xyxy, e.annotation_ids, np.array([b.identity or "" for b in boxes])
                )
            },
        )
        for p, record in zip(predictions, records, strict=True)
        for e, boxes in [(p.tasks["lookup"], record.labels["cells"])]
        if isinstance(e, Embeddings) and "lookup" in record.labels
    ]
    assert evaluate("lookup", records, named) == result


def test_objects_that_were_not_embedded_are_reported(records, predictions, evaluate):
    def without_first(e):
        return Embeddings(e.embeddings[1:], e.boxes_xyxy[1:], e.annotation_ids[1:])

    fewer = [ImagePredictions(p.image_id, {"lookup": without_first(p.tasks["lookup"])}) for p in predictions]
    with pytest.raises(ValueError, match=r"each of \[101, 102, 103\] must be embedded exactly once"):
        evaluate("lookup", records, fewer)


def test_missing_gallery_of_training_images_is_reported(records, predictions, evaluate):
    with pytest.raises(ValueError, match="its gallery is the training split"):
        evaluate("scene", records, predictions, None)


def test_training_gallery_does_not_contain_the_queries(records, evaluate, gallery):
    vectors = {"north": [[1.0, 0.0]], "south": [[0.0, 1.0]]}

    def perfect(split):
        return [
            ImagePredictions(
                r.image_id, {"scene": Embeddings(np.array(vectors[r.labels["scene"][0]], dtype=np.float32))}
            )
            for r in split
            if "scene" in r.labels
        ]

    result = evaluate("scene", records, perfect(records), Gallery(gallery.records, perfect(gallery.records)))
    assert (result["gallery"], result["num_gallery"], result["num_queries"]) == ("train", 8, 8)
    assert result["recall_at_1"] == result["map_at_r"] == 1.0


@pytest.mark.parametrize("name", TASKS)
def test_scoring_gives_the_main_metric_and_all_summary_keys(name, tasks, model):
    keys = list(summarize("val", {name: tasks[name]}))
    assert keys == summary_keys("val", name, model.tasks[name])
    assert f"val/{name}/{kind_of(model.tasks[name]).main_metric(model.tasks[name])}" in keys


def test_selection_defaults_to_the_main_metric_of_the_first_task(model):
    assert selection(model).metric == "val/cells/AP"


def test_unknown_metric_is_rejected_with_the_nearest_one(model):
    wrong = ModelSpec.model_validate(model.model_dump() | {"select": {"metric": "val/cells/ap"}})
    with pytest.raises(ConfigError, match=r"model.select.metric: got 'val/cells/ap'; did you mean 'val/cells/A"):
        selection(wrong)
    right = ModelSpec.model_validate(model.model_dump() | {"select": {"metric": "val/marks/top1_macro_recall"}})
    assert selection(right) == right.select
