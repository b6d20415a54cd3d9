"""The description of an export is read from its folder, and says whether and how fast it may be served."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import file_sha256
from pipelines.runtimes.variant import load_variant, read_variant, read_variants
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency, fastest_first
from pipelines.spec.job import JobSpec
from tests.channel_means import write_channel_means


@pytest.fixture
def variant(tiny_job: JobSpec) -> ExportedVariant:
    return ExportedVariant.model_validate(
        {
            "pyramidion": "1",
            "runtime": "openvino",
            "precision": "fp32",
            "graph": "model.xml",
            "size_bytes": 10,
            "nms": "outside",
            "inputs": [{"name": "images", "dtype": "uint8", "shape": ["batch", 3, "height", "width"]}],
            "image_size": 64,
            "exif": "apply",
            "model": tiny_job.model,
            "categories": {task: [{"id": 1, "name": "a"}] for task in tiny_job.model.tasks},
            "weights": {"backbone": "timm:resnet10t", "weights": "none", "license": None},
            "weights_sha256": "00",
            "files": {"model.xml": "00"},
        }
    )


def served(variant: ExportedVariant, precision: str, runtime_ms: float) -> ExportedVariant:
    latency = Latency(runtime_ms=runtime_ms, torch_ms=100, threads=1, size_hw=(64, 64), cpu="a CPU")
    changes = {"precision": precision, "latency": latency, "gate": Gate(max_drop=0.005), "servable": True}
    return variant.model_copy(update=changes)


def write(folder: Path, variant: ExportedVariant) -> Path:
    target = ExportsDir.of(folder).variant(variant.name)
    target.path.mkdir(parents=True)
    target.description.write_text(variant.model_dump_json())
    return target.path


def test_description_survives_its_file(variant: ExportedVariant, tmp_path: Path) -> None:
    assert read_variant(write(tmp_path, variant)) == variant


def test_fastest_export_that_passed_its_gate_is_first(variant: ExportedVariant) -> None:
    gate = Gate(max_drop=0.005, reasons=("val/cells/AP falls by 0.1",))
    failed = variant.model_copy(update={"precision": "bf16", "gate": gate})
    found = fastest_first([served(variant, "fp32", 80), failed, served(variant, "int8", 20)])
    assert [export.name for export in found] == ["openvino-int8", "openvino-fp32"]


def test_description_of_another_format_is_refused_with_advice(variant: ExportedVariant, tmp_path: Path) -> None:
    folder = write(tmp_path, variant)
    (folder / "model.json").write_text('{"format": 2}')
    with pytest.raises(ConfigError, match=r"is not an export that this version reads: .*; export the model again"):
        read_variant(folder)


def test_fields_of_later_versions_are_ignored_in_what_is_stored_about_an_export(
    variant: ExportedVariant, tmp_path: Path
) -> None:
    """The code that is stored with a registered model reads exports that are made by later versions."""
    folder = write(tmp_path, served(variant, "fp32", 80))
    content = json.loads((folder / "model.json").read_text())
    for part in (content, content["gate"], content["latency"], content["weights"], content["inputs"][0]):
        part["added_later"] = 1
    (folder / "model.json").write_text(json.dumps(content))
    assert read_variant(folder) == served(variant, "fp32", 80)


def test_export_that_cannot_be_read_is_skipped_with_a_warning(
    variant: ExportedVariant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, variant)
    damaged = write(tmp_path, variant.model_copy(update={"precision": "int8"}))
    (damaged / "model.json").write_text('{"format": 2}')
    assert [found.name for found, _ in read_variants(ExportsDir.of(tmp_path))] == ["openvino-fp32"]
    (warning,) = caplog.messages
    assert warning.startswith(f"{damaged}: is not an export that this version reads: runtime: Field required")


def test_reason_says_why_an_export_is_not_served(variant: ExportedVariant) -> None:
    assert variant.reason == "it was not evaluated"
    assert served(variant, "fp32", 80).reason == ""
    gate = Gate(max_drop=0.005, reasons=("val/cells/AP falls by 0.1",))
    assert variant.model_copy(update={"gate": gate}).reason == "val/cells/AP falls by 0.1"


def test_folder_of_an_export_without_its_graph_is_refused_with_advice(variant: ExportedVariant, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.xml is missing or was changed .*; export the model again"):
        load_variant(write(tmp_path, variant))
    with pytest.raises(ConfigError, match="is not an export that this version reads"):
        load_variant(tmp_path)


def test_graph_that_the_runtime_does_not_read_is_refused_with_advice(scene_job: JobSpec, tmp_path: Path) -> None:
    variant = write_channel_means(tmp_path / "export", scene_job)
    graph = tmp_path / "export" / "model.onnx"
    graph.write_bytes(b"no graph")
    content = variant.model_copy(update={"files": {graph.name: file_sha256(graph)}}).model_dump_json()
    (tmp_path / "export" / "model.json").write_text(content)
    with pytest.raises(ConfigError, match=r"cannot be loaded by onnxruntime .*; export the model again"):
        load_variant(tmp_path / "export", threads=1)


def test_graph_that_was_changed_after_the_evaluation_is_refused(scene_job: JobSpec, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    write_channel_means(folder, scene_job)
    load_variant(folder, threads=1)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content.replace(b"channel means", b"channel modes"))
    with pytest.raises(
        ConfigError, match=r"model.onnx is missing or was changed after the evaluation; export .* again"
    ):
        load_variant(folder, threads=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graph": "../other/model.onnx"}, "graph.*: .*should match pattern"),
        ({"graph": "/etc/passwd"}, "graph.*: .*should match pattern"),
        ({"files": {"../model.onnx": "00"}}, "files.*: .*should match pattern"),
        ({"files": {}}, "names the graph 'model.onnx'"),
        ({"runtime": "openvino"}, "names the graph 'model.onnx'"),
        ({"sizes_hw": [[10**6, 10**6]]}, "sizes_hw.*: .*less than or equal to 8192"),
        ({"sizes_hw": []}, "sizes_hw.*: .*at least 1 item"),
        ({"multiple_of": 0}, "multiple_of.*: .*greater than or equal to 1"),
    ],
)
def test_description_that_no_export_writes_is_refused(
    change: dict[str, Any], message: str, scene_job: JobSpec, tmp_path: Path
) -> None:
    variant = write_channel_means(tmp_path / "export", scene_job)
    content = {**variant.model_dump(mode="json"), **change}
    (tmp_path / "export" / "model.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        load_variant(tmp_path / "export", threads=1)
