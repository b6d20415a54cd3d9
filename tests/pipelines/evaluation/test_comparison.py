"""Comparisons of runs: numbers of samples against other scorers, intervals against a plain bootstrap, and refusals."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.base.errors import ConfigError
from pipelines.evaluation.comparison import compare_runs, open_run, to_json
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.spec.result import DataResult
from pipelines.tasks.classification.tensors.scores import score_multiclass, score_multilabel
from pipelines.tasks.kinds import KINDS
from tests.pipelines.evaluation.conftest import make_predictions

COMPARED = ("cells", "kind", "marks", "lookup")


@pytest.fixture(scope="module")
def write_run(model, categories, evaluate):
    """Write a run folder as `fit` does."""

    def write(folder, records, predictions, **changes):
        tasks = {name: evaluate(name, records, predictions) for name in model.tasks}
        for name, task in model.tasks.items():
            write_predictions(folder / "predictions", name, task, categories[name], records, predictions)
            write_ground_truth(folder / "ground_truth", name, task, categories[name], records)
        facts = {"model": {}, "timing": {}, "versions": {}, "data": DataResult(num_skipped=0, skipped=[])}
        arguments = {"split": "test", "tasks": tasks, "val_tasks": None, "select": selection(model)} | changes
        write_result(folder / "result.json", build_result(**facts, **arguments))
        return folder

    return write


@pytest.fixture(scope="module")
def folders(write_run, records, predictions, tmp_path_factory):
    """Two runs with different predictions for the same images."""
    root = tmp_path_factory.mktemp("runs")
    return write_run(root / "a", records, predictions), write_run(root / "b", records, make_predictions(records, 8))


@pytest.fixture(scope="module")
def runs(folders):
    return [open_run(folder.name, folder) for folder in folders]


def scored_images(folder, task):
    result = json.loads((folder / "result.json").read_text())["tasks"][task]
    kind = KINDS[result["kind"]]
    predictions = folder / "predictions" / f"{task}{kind.predictions.suffix}"
    truth = None if kind.ground_truth is None else folder / "ground_truth" / f"{task}{kind.ground_truth.suffix}"
    return kind.scored_images(result, predictions, truth), result


@pytest.mark.parametrize("task", COMPARED)
def test_sample_with_every_image_once_has_the_numbers_of_the_result(folders, task):
    scored, result = scored_images(folders[0], task)
    scores = scored.scores(np.ones((1, len(scored.images))))
    kind = KINDS[result["kind"]]
    numbers = {name: None if np.isnan(values[0]) else values[0] for name, values in scores.metrics.items()}
    expected = {name: kind.numbers(result)[name] for name in numbers}
    assert numbers == {
        name: value if value is None else pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }
    for row in result["per_class"]:
        for name, values in scores.per_class[row[kind.class_columns[0]]].items():
            assert (row[name] is None) == np.isnan(values[0])
            assert row[name] is None or values[0] == pytest.approx(row[name], abs=1e-6)


def repeated(truth, found, counts):
    """Return a COCO file and results in which every image occurs as often as `counts` says, under new ids."""
    images, annotations, results = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda image: image["id"]), counts, strict=True):
        for _ in range(count):
            new = {"image_id": len(images) + 1}
            images.append({"id": new["image_id"]})
            for row in truth["annotations"]:
                if row["image_id"] == image["id"]:
                    annotations.append({**row, **new, "id": len(annotations) + 1})
            results += [{**row, **new} for row in found if row["image_id"] == image["id"]]
    return {"images": images, "annotations": annotations, "categories": truth["categories"]}, results


def pycocotools_evaluation(truth, found):
    coco = COCO()
    coco.dataset = {"info": {}, **truth}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def test_detections_of_a_sample_are_scored_as_by_pycocotools_on_repeated_images(folders, capsys):
    scored, _ = scored_images(folders[0], "cells")
    truth = json.loads((folders[0] / "ground_truth" / "cells.coco.json").read_text())
    found = json.loads((folders[0] / "predictions" / "cells.coco.json").read_text())
    # Scores that are equal in different images keep the order of the images.
    found = [{**row, "score": round(row["score"], 1)} for row in found]
    one_per_image = {(row["image_id"], row["category_id"], row["score"]): row for row in found}
    found = list(one_per_image.values())
    scored = type(scored)(truth, found)
    samples = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=4)
    scores = scored.scores(samples.astype(float))
    for number, counts in enumerate(samples):
        evaluation = pycocotools_evaluation(*repeated(truth, found, counts))
        capsys.readouterr()
        for name, oracle in zip(KINDS["detection"].metrics, evaluation.stats, strict=True):
            ours = scores.metrics[name][number]
            assert np.isnan(ours) if oracle < 0 else ours == pytest.approx(oracle, abs=1e-12)
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        names = {category["id"]: category["name"] for category in truth["categories"]}
        for k, category_id in enumerate(evaluation.params.catIds):
            of_class = precision[:, :, k]
            ours = scores.per_class[names[category_id]]
            for name, values in (("AP", of_class), ("AP50", of_class[0])):
                ap = ours[name][number]
                assert np.isnan(ap) if values.min() < 0 else ap == pytest.approx(values.mean(), abs=1e-12)


@pytest.mark.parametrize("task", ["kind", "marks"])
def test_classes_of_a_sample_are_scored_as_those_of_repeated_images(folders, categories, task):
    scored, _ = scored_images(folders[0], task)
    num_images = len(scored.images)
    samples = np.random.default_rng(0).multinomial(num_images, np.full(num_images, 1 / num_images), size=5)
    scores = scored.scores(samples.astype(float))
    for number, counts in enumerate(samples):
        rows = np.repeat(np.arange(num_images), counts)
        found, truths = scored._scores[rows], scored._truths[rows]
        if task == "kind":
            expected = score_multiclass(categories[task], found, truths.argmax(axis=1))
        else:
            expected = score_multilabel(categories[task], found, truths)
        for name in KINDS["classification"].metrics:
            ours = scores.metrics[name][number]
            assert np.isnan(ours) if expected[name] is None else ours == pytest.approx(expected[name], abs=1e-6)
        for row in expected["per_class"]:
            for name, values in scores.per_class[row["label"]].items():
                ours = values[number]
                assert np.isnan(ours) if row[name] is None else ours == pytest.approx(row[name], abs=1e-6)


def test_interval_is_that_of_a_plain_bootstrap_of_hits(runs, folders):
    """Recall at 1 is the share of queries that find their identity: here it is drawn image by image."""
    compared = compare_runs(runs, ["lookup"], num_samples=300, seed=5).tasks["lookup"]
    generator = np.random.default_rng(5)
    hits = []
    for folder in folders:
        with np.load(folder / "predictions" / "lookup.npz") as arrays:
            known = arrays["identity"] != ""
            rows, names, images = (arrays[key][known] for key in ("embedding", "identity", "image_id"))
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        near = units @ units.T
        np.fill_diagonal(near, -np.inf)
        hits.append(names[near.argmax(axis=1)] == names)
    ids = np.unique(images)
    differences = []
    for _ in range(300):
        counts = generator.multinomial(len(ids), np.full(len(ids), 1 / len(ids)))
        drawn = np.concatenate([np.flatnonzero(images == i) for i in np.repeat(ids, counts)])
        differences.append(hits[1][drawn].mean() - hits[0][drawn].mean())
    (recall,) = (number for number in compared.metrics if number.name == "recall_at_1")
    (difference,) = recall.differences
    assert difference.difference == pytest.approx(hits[1].mean() - hits[0].mean())
    assert (difference.low, difference.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])))


def test_better_run_is_recognized_and_equal_runs_do_not_differ(write_run, records, predictions, folders, tmp_path):
    right = [replace(p, tasks={**p.tasks, "cells": perfect(p, r)}) for p, r in zip(predictions, records, strict=True)]
    best = open_run("best", write_run(tmp_path / "best", records, right))
    first = open_run("first", folders[0])
    compared = compare_runs([first, best, first], ["cells"], num_samples=200)
    for number in compared.tasks["cells"].metrics:
        better, same = number.differences
        assert (same.difference, same.low, same.high, same.excludes_zero) in (
            (0.0, 0.0, 0.0, False),
            (None, None, None, False),
        )
        if number.name in ("AP", "AP50"):
            assert better.low is not None
            assert better.difference == pytest.approx(number.values[1] - number.values[0])
            assert 0 < better.low < better.difference < better.high
            assert better.excludes_zero
    never = next(row for row in compared.tasks["cells"].per_class if row.label == "never")
    assert never.numbers[0].values == (None, None, None)


def perfect(prediction, record):
    found = prediction.tasks["cells"]
    boxes = np.array([label.bbox_xywh for label in record.labels["cells"]], dtype=np.float32).reshape(-1, 4)
    names = ["red", "white", "never"]
    labels = np.array([names.index(label.category) for label in record.labels["cells"]], dtype=np.int64)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return replace(found, boxes_xyxy=corners, scores=np.full(len(labels), 0.9, np.float32), labels=labels)


def test_answer_repeats_exactly_and_does_not_depend_on_the_chunks(runs, monkeypatch):
    from pipelines.evaluation import comparison

    text = to_json(compare_runs(runs, COMPARED, num_samples=50))
    assert text == to_json(compare_runs(runs, COMPARED, num_samples=50))
    assert "NaN" not in text
    monkeypatch.setattr(comparison, "MAX_CELLS", 400)
    assert json.loads(text) == json.loads(to_json(compare_runs(runs, COMPARED, num_samples=50)))
    assert json.loads(text) != json.loads(to_json(compare_runs(runs, COMPARED, num_samples=50, seed=1)))


def test_runs_on_other_images_labels_or_classes_are_refused(write_run, records, predictions, runs, tmp_path, model):
    fewer = open_run("fewer", write_run(tmp_path / "fewer", records[:-2], predictions[:-2]))
    with pytest.raises(ConfigError, match=r"fewer: task 'cells': scored 0 images .* lacks 2 images \(folder/010"):
        compare_runs([runs[0], fewer], ["cells"])
    boxes = records[1].labels["cells"]
    moved = [replace(boxes[0], bbox_xywh=(1.0, 2.0, 30.0, 40.0)), *boxes[1:]]
    others = [records[0], replace(records[1], labels={**records[1].labels, "cells": moved}), *records[2:]]
    relabeled = open_run("relabeled", write_run(tmp_path / "relabeled", others, predictions))
    with pytest.raises(
        ConfigError, match=r"relabeled: task 'cells': the labels of 1 image \(folder/001 é.jpg\) differ"
    ):
        compare_runs([runs[0], relabeled], ["cells"])
    assert compare_runs([runs[0], relabeled], ["kind"], num_samples=10).tasks.keys() == {"kind"}
    val = open_run("val", write_run(tmp_path / "val", records, predictions, split="val"))
    with pytest.raises(ConfigError, match="val: was scored on val, but a on test"):
        compare_runs([runs[0], val])


def test_runs_with_other_tasks_are_refused(runs, folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "less")
    result = json.loads((tmp_path / "less" / "result.json").read_text())
    del result["tasks"]["marks"]
    (tmp_path / "less" / "result.json").write_text(json.dumps(result))
    less = open_run("less", tmp_path / "less")
    with pytest.raises(ConfigError, match="less: has no task 'marks'"):
        compare_runs([runs[0], less])
    with pytest.raises(ConfigError, match="a: has the tasks marks, which less lacks"):
        compare_runs([less, runs[0]])
    with pytest.raises(ConfigError, match=r"a: task 'scene': .* searched in the training split"):
        compare_runs(runs)


def test_run_without_its_files_or_with_those_of_another_evaluation_is_refused(runs, folders, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing: result.json: No such file"):
        open_run("nothing", tmp_path / "nothing")
    mixed = tmp_path / "mixed"
    shutil.copytree(folders[0], mixed)
    shutil.copy(folders[1] / "predictions" / "cells.coco.json", mixed / "predictions")
    with pytest.raises(ConfigError, match=r"mixed: task 'cells': the files in predictions/ give AP .* result.json has"):
        compare_runs([runs[0], open_run("mixed", mixed)], ["cells"])
    (mixed / "predictions" / "cells.coco.json").write_text("{")
    with pytest.raises(ConfigError, match=r"mixed: task 'cells': its files .* are damaged .*Expecting"):
        compare_runs([runs[0], open_run("mixed", mixed)], ["cells"])
    (mixed / "predictions" / "cells.coco.json").unlink()
    with pytest.raises(ConfigError, match=r"mixed: .*cells.coco.json: No such file or directory; a comparison needs"):
        compare_runs([runs[0], open_run("mixed", mixed)], ["cells"])
    (mixed / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"mixed: result.json is not the result of a training"):
        open_run("mixed", mixed)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("predictions/cells.coco.json", lambda data: b"[" * 100_000),
        ("predictions/cells.coco.json", lambda data: re.sub(rb'"image_id": ?', b'"image_id": 1' + b"0" * 30, data)),
        ("ground_truth/cells.coco.json", lambda data: re.sub(rb'("images": ?.)({.*?})', rb"\1\2,\2", data, flags=re.S)),
        ("ground_truth/cells.coco.json", lambda data: re.sub(rb'"file_name": ?', b'"file_name": [], "x": ', data)),
        ("predictions/kind.csv", lambda data: data + b'"' + b"x" * 200_000),
        ("predictions/kind.csv", lambda data: data + data.partition(b"\n")[2]),
        ("predictions/lookup.npz", lambda data: b""),
        ("predictions/lookup.npz", lambda data: data[: len(data) // 2]),
    ],
)
def test_damaged_files_are_refused(folders, tmp_path, name, damage):
    folder = shutil.copytree(folders[1], tmp_path / "damaged")
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    task = (folder / name).name.partition(".")[0]
    with pytest.raises(ConfigError, match=f"^damaged: task '{task}': its files .*run `pyramidion test` again"):
        compare_runs([open_run("first", folders[0]), open_run("damaged", folder)], [task])
