"""Networks are scored on val as in training, and report.json collects the exports of a folder."""

import json
from pathlib import Path

import pytest
import torch

from pipelines.export.evaluation import score_networks
from pipelines.export.inputs import calibration_inputs
from pipelines.export.parity import PaddedNetwork, ParityMeter
from pipelines.export.report import export_metrics, write_report
from pipelines.export.variants import ExportSource
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.spec.export_summary import result_lines
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency, MetricPair, Parity


def test_two_networks_that_are_equal_have_equal_scores_and_no_differences(source: ExportSource) -> None:
    meter = ParityMeter()
    networks = [source.network, source.network]
    first, second = score_networks(networks, source.job.model, source.index, source.data, observe=meter.add)
    assert first == second
    assert set(first) >= {"val/shapes/AP", "val/scene/mAP"}
    parity = meter.result
    assert (parity.num_images, parity.scores, parity.boxes_px, parity.missing_detections) == (6, 0, 0, 0)
    assert parity.embeddings is None, "the model has none"


def test_network_of_padded_images_predicts_what_a_graph_of_one_size_is_compared_with(source: ExportSource) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (0, 32, 0, 0))
    sizes = [(64, 64), (60, 50)]
    found = PaddedNetwork(source.network, [(96, 128), (64, 96)]).predict(images, sizes, tasks=["scene"])
    meter = ParityMeter()
    meter.add((source.network.predict(padded, sizes, tasks=["scene"]), found))
    assert (meter.result.num_images, meter.result.scores) == (2, 0)


def test_images_of_calibration_are_spread_over_train_and_the_same_each_time(source: ExportSource) -> None:
    inputs = calibration_inputs(source.data, 3)
    again = calibration_inputs(source.data, 3)
    assert [given["images"].shape for given in inputs] == [(1, 3, 96, 96)] * 3
    assert all((one["images"] == other["images"]).all() for one, other in zip(inputs, again, strict=True))
    assert len(calibration_inputs(source.data, 1000)) == len(source.index.records["train"])


@pytest.fixture
def variant(source: ExportSource) -> ExportedVariant:
    return ExportedVariant.model_validate(
        {
            "pyramidion": "1",
            "runtime": "onnxruntime",
            "precision": "fp32",
            "graph": "model.onnx",
            "size_bytes": 2_000_000,
            "nms": "outside",
            "inputs": [],
            "image_size": 96,
            "exif": "apply",
            "model": source.job.model,
            "categories": {},
            "weights": {"backbone": "resnet14_thin", "weights": "none", "license": None},
            "weights_sha256": "00",
            "files": {"model.onnx": "00"},
            "metrics": {
                "val/shapes/AP": MetricPair(torch=0.5, variant=0.25),
                "val/scene/mAP": MetricPair(torch=None, variant=None),
            },
            "latency": Latency(runtime_ms=5, torch_ms=20, threads=1, size_hw=(96, 96), cpu="a CPU"),
            "gate": Gate(max_drop=0.005, metrics=("shapes/AP", "scene/mAP"), reasons=("val/shapes/AP falls by 0.25",)),
        }
    )


def test_report_has_every_complete_export(variant: ExportedVariant, tmp_path: Path) -> None:
    exports = ExportsDir.of(tmp_path)
    folder = exports.variant(variant.name)
    folder.path.mkdir(parents=True)
    folder.description.write_text(variant.model_dump_json())
    (exports.path / "openvino-fp32").mkdir()
    assert write_report(exports).variants == {"onnxruntime-fp32": variant.result}
    written = json.loads(exports.report.read_text())["variants"]["onnxruntime-fp32"]
    assert written["gate"]["reasons"] == ["val/shapes/AP falls by 0.25"]
    assert "model" not in written


def test_metrics_of_an_export_have_its_name(variant: ExportedVariant) -> None:
    assert export_metrics(variant.result) == {
        "export/onnxruntime-fp32/val/shapes/AP": 0.25,
        "export/onnxruntime-fp32/val/scene/mAP": None,
        "export/onnxruntime-fp32/servable": 0.0,
        "export/onnxruntime-fp32/latency_ms": 5,
        "export/onnxruntime-fp32/torch_latency_ms": 20,
    }


def test_printed_result_compares_the_export_with_torch(variant: ExportedVariant) -> None:
    variant.metrics["test/shapes/AP"] = MetricPair(torch=0.4, variant=0.3)
    variant.metrics["test/shapes/AP50"] = MetricPair(torch=0.8, variant=0.8)
    parity = Parity(num_images=6, scores=2e-6, boxes_px=None, embeddings=None, missing_detections=0)
    assert list(result_lines(variant.result.model_copy(update={"parity": parity}))) == [
        "val/shapes/AP: torch float32 0.5000, onnxruntime-fp32 0.2500",
        "val/scene/mAP: torch float32 undefined, onnxruntime-fp32 undefined",
        "test/shapes/AP: torch float32 0.4000, onnxruntime-fp32 0.3000",
        "largest differences from torch on 6 images of val: scores 2.0e-06",
        "one image of 96 x 96 with 1 thread: torch 20.0 ms, onnxruntime-fp32 5.0 ms, 4.0 times as fast",
        "2.0 MB; is not served",
    ]
