"""An export is a folder that is complete, evaluated on its runtime, and runs without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.export.variants import ExportSource, export_variant
from pipelines.inference.predictor import Predictor
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.runtimes.variant import load_variant, read_variant
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.job import JobSpec

pytestmark = pytest.mark.integration

WITHOUT_TORCH = """
import runpy, sys
sys.modules.update({name: None for name in ("torch", "torchvision", "heads", "pipelines", "backbones")})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def answers_of(example: Path, image: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(example), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280, cwd=example.parent)
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_export_computes_what_torch_computes_and_may_be_served(exports: ExportsDir) -> None:
    variant = read_variant(exports.variant("openvino-fp32").path)
    assert variant.servable, variant.reason
    assert variant.parity is not None
    assert variant.parity.num_images == 6
    assert variant.latency is not None
    assert variant.metrics["val/scene/mAP"].torch == pytest.approx(variant.metrics["val/scene/mAP"].variant, abs=0.005)


def test_folder_is_complete_and_nothing_else_remains(exports: ExportsDir) -> None:
    assert [path.name for path in exports.path.iterdir()] == ["openvino-fp32"]
    files = sorted(path.name for path in exports.variant("openvino-fp32").path.iterdir())
    assert files == ["README.md", "example.py", "inference.py", "model.bin", "model.json", "model.xml"]


def test_graph_has_no_input_that_it_does_not_use(exports: ExportsDir) -> None:
    folder = exports.variant("openvino-fp32").path
    variant = read_variant(folder)
    assert variant.nms == "outside"
    assert [given.name for given in variant.inputs] == ["images"]
    assert load_variant(folder, threads=1).session.input_names == ["images"]


def test_card_says_what_the_model_finds_and_where_its_weights_are_from(exports: ExportsDir) -> None:
    card = exports.variant("openvino-fp32").card.read_text()
    for part in (
        "may be served",
        "pip install openvino",
        "`shapes`: detection of disc",
        "random weights",
        "val/scene/mAP",
    ):
        assert part in card


def test_example_prints_the_answers_of_the_predictor_without_torch(source: ExportSource, exports: ExportsDir) -> None:
    folder = exports.variant("openvino-fp32")
    record = source.index.records["val"][0]
    answers = answers_of(folder.example, record.path)
    (expected,) = Predictor(source.network, source.job, source.categories).predict([record.path])
    scores = {row["label"]: row["score"] for row in expected["tasks"]["scene"]["labels"]}
    assert {row["label"]: row["score"] for row in answers["scene"]["labels"]} == pytest.approx(scores, abs=0.02)
    theirs = objects(expected["tasks"]["shapes"])
    assert theirs
    common = objects(answers["shapes"]) & theirs
    assert len(common) >= 0.7 * len(theirs), "resizing by Pillow and by torch differs by a few gray levels"


def objects(answer: Any) -> set[tuple[Any, ...]]:
    rows = [row for row in answer["detections"] if row["score"] > 0.02]
    return {(row["label"], *np.round(row["bbox_xywh"]).tolist()) for row in rows}


def test_calibration_of_scores_is_described(exports: ExportsDir) -> None:
    assert read_variant(exports.variant("openvino-fp32").path).temperatures == {"shapes": 1.3, "scene": 0.7}


def test_graph_of_one_size_computes_what_torch_computes_for_the_same_padded_images(
    export_job: JobSpec, make_source: Callable[[JobSpec], ExportSource], tmp_path: Path
) -> None:
    document = export_job.model_dump()
    document["model"]["backbone"] = {"name": "vit_tiny", "weights": "none"}
    document["data"]["image_size"] = [64, 96]  # the images are squares
    source = make_source(JobSpec.model_validate(document))
    variant = export_variant(source, ExportSettings(to="onnx", max_drop=1), ExportsDir.of(tmp_path))
    assert variant.sizes_hw == ((64, 96),)
    assert variant.servable, variant.reason
    padded = {name: pair for name, pair in variant.metrics.items() if pair.torch != pair.variant}
    assert padded, "the metrics are compared with those of torch without padding"
