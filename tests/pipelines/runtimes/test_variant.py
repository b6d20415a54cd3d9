"""The description of an export is read from its folder, and says whether and how fast it may be served."""

from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.runtimes.variant import load_variant, read_variant
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency, fastest_first
from pipelines.spec.job import JobSpec


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
            "model": tiny_job.model,
            "categories": {task: [{"id": 1, "name": "a"}] for task in tiny_job.model.tasks},
            "weights": {"backbone": "timm:resnet10t", "weights": "none", "license": None},
            "weights_sha256": "00",
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


def test_reason_says_why_an_export_is_not_served(variant: ExportedVariant) -> None:
    assert variant.reason == "it was not evaluated"
    assert served(variant, "fp32", 80).reason == ""
    gate = Gate(max_drop=0.005, reasons=("val/cells/AP falls by 0.1",))
    assert variant.model_copy(update={"gate": gate}).reason == "val/cells/AP falls by 0.1"


def test_folder_of_an_export_without_its_graph_is_refused_with_advice(variant: ExportedVariant, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded by openvino .*export the model again"):
        load_variant(write(tmp_path, variant))
    with pytest.raises(ConfigError, match="is not an export that this version reads"):
        load_variant(tmp_path)
