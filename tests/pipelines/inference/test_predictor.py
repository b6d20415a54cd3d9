import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from heads.base import BoxPrediction, ClassPrediction
from pipelines.base.errors import DataError
from pipelines.base.records import Category
from pipelines.data.loading.transforms import EvalTransform
from pipelines.data.source_images import expected_exif
from pipelines.inference.network import TorchNetwork
from pipelines.inference.predictor import Predictor
from pipelines.model import MultiTaskModel
from pipelines.spec.job import JobSpec
from pipelines.tasks.thresholds import ThresholdUnusable
from service.rest.model_schemas import PredictionView

Categories = dict[str, list[Category]]


@pytest.fixture(scope="module")
def predictor(tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories) -> Predictor:
    return Predictor(TorchNetwork(tiny_model, "cpu"), tiny_job, tiny_categories)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def numbers(node: Any) -> Iterator[float]:
    """All numbers of an answer, in order."""
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from numbers(child)
    elif isinstance(node, float | int):
        yield float(node)


def words(node: Any) -> list[str]:
    """All texts of an answer, in order."""
    if isinstance(node, dict | list):
        return [word for child in (node.values() if isinstance(node, dict) else node) for word in words(child)]
    return [node] if isinstance(node, str) else []


def test_boxes_are_in_pixels_of_the_given_image(predictor: Predictor, tiny_model: MultiTaskModel) -> None:
    """An image of 64 x 128 is halved to 32 x 64, which needs no padding: its boxes are twice those of the model."""
    image = Image.fromarray(np.random.default_rng(3).integers(0, 255, (64, 128, 3), dtype=np.uint8))
    halved = EvalTransform(64)(torch.from_numpy(np.array(image)).permute(2, 0, 1), {}).image
    expected = tiny_model.predict(halved[None], [(32, 64)])["cells"][0]
    assert isinstance(expected, BoxPrediction)
    answer = predictor.predict([image])[0]
    assert answer["image"] == {"width": 128, "height": 64}
    rows = answer["tasks"]["cells"]["detections"]
    corners = 2 * expected.boxes_xyxy
    by_hand = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    assert torch.allclose(torch.tensor([row["bbox_xywh"] for row in rows]), by_hand, atol=1e-4)
    assert [row["score"] for row in rows] == pytest.approx(expected.scores.tolist())
    assert [row["category_id"] for row in rows] == [10 * k + 5 for k in expected.labels.tolist()]
    assert [row["label"] for row in rows] == [f"cells {k}" for k in expected.labels.tolist()]


def test_every_kind_of_task_answers_in_the_form_of_its_schema(
    predictor: Predictor, tiny_images: list[Image.Image]
) -> None:
    answer = predictor.predict(tiny_images[:1])[0]
    assert answer["image"] == {"width": 64, "height": 48}
    tasks = answer["tasks"]
    assert list(tasks) == ["cells", "kind", "lookup", "scene", "signs"]
    assert len(tasks["cells"]["detections"]) == 7
    kinds = tasks["kind"]["labels"]
    assert sum(row["score"] for row in kinds) == pytest.approx(1)
    assert {row["label"] for row in kinds} == {"kind 0", "kind 1", "kind 2"}
    assert len(tasks["signs"]["labels"]) == 3
    assert np.linalg.norm(tasks["scene"]["embedding"]) == pytest.approx(1, abs=1e-5)
    assert json.loads(json.dumps(answer)) == answer
    assert PredictionView.model_validate(answer, strict=True).model_dump(exclude_unset=True) == answer


def test_labels_carry_the_scores_of_the_model_best_first(
    predictor: Predictor, tiny_model: MultiTaskModel, tiny_images: list[Image.Image]
) -> None:
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[0, :, :48] = torch.from_numpy(np.array(tiny_images[0])).permute(2, 0, 1)
    for task in ("kind", "signs"):
        expected = tiny_model.predict(image, [(48, 64)])[task][0]
        assert isinstance(expected, ClassPrediction)
        by_hand = {f"{task} {k}": score for k, score in enumerate(expected.scores.tolist())}
        rows = predictor.predict(tiny_images[:1])[0]["tasks"][task]["labels"]
        assert {row["label"]: row["score"] for row in rows} == pytest.approx(by_hand)
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_embeddings_of_objects_belong_to_the_boxes_of_their_detector(
    predictor: Predictor, tiny_images: list[Image.Image]
) -> None:
    for answer in predictor.predict(tiny_images):
        detections, embeddings = answer["tasks"]["cells"]["detections"], answer["tasks"]["lookup"]["embeddings"]
        assert [row["bbox_xywh"] for row in embeddings] == [row["bbox_xywh"] for row in detections]
        assert [row["score"] for row in embeddings] == [row["score"] for row in detections]
        assert [len(row["embedding"]) for row in embeddings] == [8] * len(detections)


def test_threshold_selects_objects_with_their_embeddings_and_classes_of_multilabel_tasks(
    predictor: Predictor, tiny_images: list[Image.Image]
) -> None:
    full = predictor.predict(tiny_images)
    for name, rows_of in (("cells", "detections"), ("signs", "labels")):
        scores = sorted(row["score"] for answer in full for row in answer["tasks"][name][rows_of])
        limit = scores[len(scores) // 2]
        for answer, selected in zip(full, predictor.predict(tiny_images, limit), strict=True):
            tasks, own = answer["tasks"], selected["tasks"]
            kept = [row for row in tasks[name][rows_of] if row["score"] > limit]
            assert own[name][rows_of] == kept
            assert own["kind"] == tasks["kind"]
            assert own["scene"] == tasks["scene"]
            above = [row for row in tasks["lookup"]["embeddings"] if row["score"] > limit]
            assert own["lookup"]["embeddings"] == above
            assert [row["bbox_xywh"] for row in above] == [row["bbox_xywh"] for row in own["cells"]["detections"]]


def test_best_thresholds_are_those_of_the_classes(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tiny_images: list[Image.Image]
) -> None:
    best = {"cells": {"cells 0": 1.0, "cells 1": 0.0, "cells 2": None}, "signs": {f"signs {k}": 0.0 for k in range(3)}}
    predictor = Predictor(TorchNetwork(tiny_model, "cpu"), tiny_job, tiny_categories, best_thresholds=best)
    full, selected = predictor.predict(tiny_images), predictor.predict(tiny_images, "best")
    limits = {"cells 0": 1.0, "cells 1": 0.0, "cells 2": 0.5}
    for answer, own in zip(full, selected, strict=True):
        rows = answer["tasks"]["cells"]["detections"]
        assert own["tasks"]["cells"]["detections"] == [row for row in rows if row["score"] > limits[row["label"]]]
        assert own["tasks"]["signs"] == answer["tasks"]["signs"]


def test_model_without_best_thresholds_predicts_with_a_number_only(
    predictor: Predictor, tiny_images: list[Image.Image]
) -> None:
    with pytest.raises(ThresholdUnusable, match="no best thresholds of cells, signs"):
        predictor.predict(tiny_images, "best")
    assert predictor.predict(tiny_images[:1], 1.0)[0]["tasks"]["cells"] == {"detections": []}


def test_no_answer_depends_on_the_other_images(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tiny_images: list[Image.Image]
) -> None:
    predictor = Predictor(TorchNetwork(tiny_model, "cpu"), tiny_job, tiny_categories, batch_size=3)
    many = [tiny_images[i % 5] for i in range(14)]
    together, alone = predictor.predict(many), [predictor.predict([image])[0] for image in tiny_images]
    assert len(together) == 14
    for i, answer in enumerate(together):
        assert list(numbers(answer)) == pytest.approx(list(numbers(alone[i % 5])), abs=1e-4)
        assert words(answer) == words(alone[i % 5])


def test_answer_for_a_truncated_file_carries_a_warning(predictor: Predictor) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "JPEG")
    complete = file.getvalue()
    whole, cut = predictor.predict([complete, complete[: len(complete) * 3 // 4]])
    assert "warnings" not in whole
    (warning,) = cut["warnings"]
    assert re.fullmatch(r"is truncated: its last \d+ rows are missing and gray", warning)
    assert PredictionView.model_validate(cut, strict=True).warnings == [warning]


def test_files_bytes_and_decoded_images_give_equal_answers(
    predictor: Predictor, tiny_images: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(tiny_images[0]))
    answers = [predictor.predict([form])[0] for form in (tiny_images[0], png(tiny_images[0]), path, str(path))]
    assert answers[1:] == answers[:1] * 3


def test_greyscale_images_are_answered(predictor: Predictor) -> None:
    gray = Image.new("L", (40, 30), 77)
    assert predictor.predict([png(gray)]) == predictor.predict([gray])


def test_no_image_gives_no_answer(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_unreadable_image_is_reported_with_its_number(predictor: Predictor, tiny_images: list[Image.Image]) -> None:
    with pytest.raises(DataError, match="image 1"):
        predictor.predict([png(tiny_images[0]), b"no image"])


def test_orientation_is_applied_like_that_of_the_sources(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (40, 20)).save(file, "PNG", exif=exif)
    document = tiny_job.model_dump(mode="json")
    for setting, width in (("ignore", 40), ("apply", 20)):
        document["data"]["sources"]["a"]["exif"] = setting
        job = JobSpec.model_validate(document)
        answer = Predictor(TorchNetwork(tiny_model, "cpu"), job, tiny_categories).predict([file.getvalue()])[0]
        assert answer["image"]["width"] == width


def test_sources_that_disagree_on_orientation_apply_it(tiny_job: JobSpec) -> None:
    document = tiny_job.model_dump(mode="json")
    document["data"]["sources"]["b"] = document["data"]["sources"]["a"] | {"exif": "apply"}
    assert expected_exif(tiny_job.data) == "ignore"
    assert expected_exif(JobSpec.model_validate(document).data) == "apply"


def test_bfloat16_stays_close_to_float32(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tiny_images: list[Image.Image]
) -> None:
    networks = (TorchNetwork(tiny_model, "cpu", precision) for precision in ("float32", "bfloat16"))
    answers = (Predictor(network, tiny_job, tiny_categories).predict(tiny_images[:1])[0] for network in networks)
    exact, rough = (answer["tasks"] for answer in answers)
    assert rough["scene"] != exact["scene"]
    assert rough["scene"]["embedding"] == pytest.approx(exact["scene"]["embedding"], abs=0.1)
