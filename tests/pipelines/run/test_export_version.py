"""A job that exports a registered version: the export is in MLflow, and may be repeated at any moment."""

import json
from pathlib import Path

import pytest

from pipelines.base.errors import RegistryError
from pipelines.data.dataset.index import build_index
from pipelines.inference.export import export_model
from pipelines.model import build_model
from pipelines.run.export_version import export_version
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import RUNS_ROOT_VARIABLE, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.learning import SelectSpec
from pipelines.spec.version_export import VersionExportSpec
from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.registry import Registry
from service.predictor.loading import PredictorLoader
from tests.channel_means import write_channel_means
from tests.unused_ports import unused_ports


@pytest.mark.integration
def test_version_is_exported_evaluated_and_then_computed_by_the_export(
    scene_job: JobSpec, demo_root: Path, mlflow_runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(RUNS_ROOT_VARIABLE, str(mlflow_runs_root))
    store = find_store(mlflow_runs_root)
    registry, client = Registry(store), connect(store)
    run_id = client.create_run(find_experiment(client, store, "tests")).info.run_id
    select = SelectSpec(metric="val/scene/mAP")
    index, _ = build_index(scene_job, demo_root)
    model = build_model(scene_job.model, index.categories)
    exported = tmp_path / "exported"
    export_model(model, scene_job, index.categories, exported)
    registry.register(exported, name="to export", run_id=run_id, metrics={}, select=select, val_fingerprint="1")
    spec = VersionExportSpec(to="onnx", model="to export", version=1, test=True)
    run_dir = RunDir.of(tmp_path / "job")
    run_dir.path.mkdir()

    export_version(spec, run_dir, [demo_root.parent])
    result = json.loads(run_dir.result.read_text())
    assert (result["export"]["servable"], result["export"]["gate"]["reasons"]) == (True, [])
    assert result["export"]["metrics"].keys() >= {"val/scene/mAP", "test/scene/mAP"}
    assert not run_dir.model.exists()
    version = registry.version("to export", 1)
    assert version is not None
    assert version.exports["onnxruntime-fp32"].result.model_dump(mode="json") == result["export"]
    logged = client.get_run(run_id).data.metrics
    assert logged["export/onnxruntime-fp32/val/scene/mAP"] == result["export"]["metrics"]["val/scene/mAP"]["variant"]
    _, name = PredictorLoader(registry, ModelFiles(tmp_path / "models", 1), 1, 8).load(version, "onnxruntime")
    assert name == "onnxruntime-fp32"

    written = ExportsDir.of(run_dir.path).variant("onnxruntime-fp32").description.stat().st_mtime_ns
    run_dir.result.unlink()
    export_version(spec, run_dir, [demo_root.parent])
    assert json.loads(run_dir.result.read_text()) == result
    assert ExportsDir.of(run_dir.path).variant("onnxruntime-fp32").description.stat().st_mtime_ns == written


def test_registry_that_does_not_answer_after_the_evaluation_keeps_the_export_for_the_next_attempt(
    scene_job: JobSpec, scene_model: Path, mlflow_runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS_ROOT_VARIABLE, str(mlflow_runs_root))
    spec, run_dir = VersionExportSpec(to="onnx", model="outage", version=1), RunDir.of(tmp_path / "job")
    folder = ExportsDir.of(run_dir.path).variant("onnxruntime-fp32")
    variant = write_channel_means(folder.path, scene_job, model=scene_model)
    (port,) = unused_ports(1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    message = "onnxruntime-fp32 is complete, but outage, version 1, does not have it: MLflow at http://127.0.0.1:"
    with pytest.raises(RegistryError, match=f"{message}.*; another attempt of this job only adds it"):
        export_version(spec, run_dir, [])
    assert not run_dir.result.exists()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    store = find_store(mlflow_runs_root)
    registry, client = Registry(store), connect(store)
    run_id = client.create_run(find_experiment(client, store, "tests")).info.run_id
    select = SelectSpec(metric="val/scene/mAP")
    registry.register(scene_model, name="outage", run_id=run_id, metrics={}, select=select, val_fingerprint="1")
    export_version(spec, run_dir, [])
    version = registry.version("outage", 1)
    assert version is not None
    assert version.exports["onnxruntime-fp32"].result == variant.result
    assert run_dir.result.is_file()
