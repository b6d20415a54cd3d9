"""What computes a registered model: torch, or an export that may be served."""

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.inference.predictor import Predictor
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.loading import PredictorLoader, RuntimeUnusable

SQUARE = Image.new("RGB", (96, 96), (255, 0, 51))


class Loader:
    """The loader, with a folder of its own for each load, on the newest state of a version."""

    def __init__(self, registry: Registry, version: ModelVersion, folder: Path) -> None:
        self._registry, self._version, self._folder = registry, version, folder

    def load(self, choice: RuntimeChoice) -> tuple[Predictor, str]:
        version = self._registry.version(self._version.name, self._version.version)
        assert version is not None
        return PredictorLoader(self._registry, ModelFiles(self._folder, 4), 1, 8).load(version, choice)


@pytest.fixture
def loader(service_registry: Registry, scene: ModelVersion, tmp_path: Path) -> Loader:
    return Loader(service_registry, scene, tmp_path / "models")


def scores(predictor: Predictor) -> dict[str, float]:
    (answer,) = predictor.predict([SQUARE])
    return {row["label"]: row["score"] for row in answer["tasks"]["scene"]["labels"]}


def test_version_without_exports_is_computed_by_torch(loader: Loader, scene_model: Path) -> None:
    predictor, name = loader.load("auto")
    assert name == "torch"
    assert scores(predictor) == scores(Predictor.from_exported(scene_model))
    with pytest.raises(RuntimeUnusable, match=r"cannot be computed by openvino: it has no export .*/exports makes one"):
        loader.load("openvino")


def test_fastest_export_that_may_be_served_computes_the_version(loader: Loader, add_export: Any) -> None:
    add_export()
    for choice in ("auto", "onnxruntime"):
        predictor, name = loader.load(choice)
        assert name == "onnxruntime-fp32"
        assert scores(predictor) == pytest.approx({"red": 1.0, "green": 0.0, "blue": 0.2}, abs=1e-6)
    assert loader.load("torch")[1] == "torch"


def test_export_that_failed_its_gate_is_never_served(loader: Loader, add_export: Any) -> None:
    add_export("val/scene/mAP falls by 0.1")
    assert loader.load("auto")[1] == "torch"
    with pytest.raises(RuntimeUnusable, match=r"may not be served \(val/scene/mAP falls by 0.1\)"):
        loader.load("onnxruntime")


def test_export_that_is_slower_than_torch_is_served_on_request_only(loader: Loader, add_export: Any) -> None:
    add_export(runtime_ms=30)
    assert loader.load("auto")[1] == "torch"
    assert loader.load("onnxruntime")[1] == "onnxruntime-fp32"


def test_repeated_export_replaces_the_earlier_one(loader: Loader, add_export: Any) -> None:
    add_export("val/scene/mAP falls by 0.1", runtime_ms=9)
    add_export(runtime_ms=8)
    assert loader.load("auto")[1] == "onnxruntime-fp32"


def test_damaged_export_is_skipped_by_auto_with_a_warning(
    loader: Loader, add_export: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add_export(is_damaged=True)
    assert loader.load("auto")[1] == "torch"
    assert "the export onnxruntime-fp32 cannot be used" in caplog.text
    with pytest.raises(RuntimeUnusable, match=r"model.onnx is missing or was changed after the evaluation"):
        loader.load("onnxruntime")


def test_export_of_other_weights_is_skipped_by_auto_with_a_warning(
    loader: Loader, add_export: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    add_export(model=tmp_path)
    assert loader.load("auto")[1] == "torch"
    assert "is an export of other weights than" in caplog.text


def test_export_whose_package_is_missing_is_skipped_by_auto_with_a_warning(
    loader: Loader, add_export: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_export()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert loader.load("auto")[1] == "torch"
    assert 'needs the package onnxruntime, which is not installed; pip install "pyramidion[export]"' in caplog.text
    with pytest.raises(RuntimeUnusable, match="needs the package onnxruntime"):
        loader.load("onnxruntime")


def test_damaged_copy_of_an_export_is_fetched_again(
    loader: Loader, add_export: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_export()
    loader.load("onnxruntime")
    (graph,) = (tmp_path / "models").rglob("model.onnx")
    graph.write_bytes(b"no graph")
    assert loader.load("onnxruntime")[1] == "onnxruntime-fp32"
    assert "copying it from the registry again" in caplog.text


def test_bfloat16_in_torch_needs_a_cpu_that_computes_in_it(loader: Loader, caplog: pytest.LogCaptureFixture) -> None:
    from pipelines.base.cpu_features import computes_bfloat16

    _, name = loader.load("torch-bf16")
    assert name == ("torch-bf16" if computes_bfloat16() else "torch")
    assert ("neither AMX nor AVX512-BF16" in caplog.text) is not computes_bfloat16()
