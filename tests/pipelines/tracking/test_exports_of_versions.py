"""An export of a version is whole or absent in MLflow, also if it is added twice, or two of them at once."""

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from pipelines.base.errors import RegistryError
from pipelines.run_folder.exports_layout import VariantDir
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.mlflow_store import Store, connect, find_experiment
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from pipelines.tracking.version_exports import add_to_versions
from tests.channel_means import write_channel_means
from tests.small_disk import fill, small_disk

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")

NAME = "onnxruntime-fp32"
Add = Callable[[str, float], None]


def register(registry: Registry, folder: Path, experiment: str) -> ModelVersion:
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, experiment)).info.run_id
    select = SelectSpec(metric="val/scene/mAP")
    return registry.register(folder, name=experiment, run_id=run_id, metrics={}, select=select, val_fingerprint="1")


@pytest.fixture
def version(registry: Registry, scene_model: Path) -> ModelVersion:
    return register(registry, scene_model, "exports of versions")


@pytest.fixture
def add(registry: Registry, version: ModelVersion, scene_job: JobSpec, tmp_path: Path) -> Add:
    """Add an export that was measured with a time, in milliseconds, from a folder."""

    def add_export(folder: str, runtime_ms: float) -> None:
        variant = write_channel_means(tmp_path / folder, scene_job, runtime_ms=runtime_ms)
        registry.add_export(version, tmp_path / folder, variant.result)

    return add_export


def folders(version: ModelVersion) -> list[Path]:
    """Return the folders of all exports among the files of a version."""
    return sorted((Path(unquote(urlsplit(version.source).path)) / "artifacts/exports").glob("*"))


def stored_ms(registry: Registry, version: ModelVersion, folder: Path) -> float:
    """Return the time of the export that the version has, whose files are all there."""
    present = registry.version(version.name, version.version)
    assert present is not None
    downloaded = registry.download_exported(present, folder, present.exports[NAME])
    assert sorted(path.name for path in downloaded.iterdir()) == ["model.json", "model.onnx"]
    latency = present.exports[NAME].result.latency
    assert latency is not None
    return latency.runtime_ms


def test_export_replaces_the_earlier_one_and_is_written_once(
    registry: Registry, version: ModelVersion, add: Add, tmp_path: Path
) -> None:
    """A repeated attempt of a job does not write files that a predictor may read."""
    add("first", 1)
    add("second", 2)
    (folder,) = folders(version)
    before = VariantDir(folder).description.stat()
    add("second again", 2)
    assert VariantDir(folder).description.stat() == before
    assert stored_ms(registry, version, tmp_path) == 2


def test_export_of_a_run_in_another_store_is_not_added_with_a_warning(
    registry: Registry, scene_job: JobSpec, tmp_path: Path
) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    variant = write_channel_means(run_dir.path / "exports" / NAME, scene_job)
    warnings: list[str] = []

    def add() -> None:
        add_to_versions(registry.store, run_dir, run_dir.path / "exports" / NAME, variant.result, warnings.append)

    run_dir.tracking_state.write_text('{"tracking_uri": "http://elsewhere:5000", "run_id": "1"}')
    add()
    assert warnings == [], "the run has registered no model"
    run_dir.registration.write_text("{}")
    add()
    (warning,) = warnings
    assert warning.startswith(
        "the registered model does not have this export: it is in MLflow at http://elsewhere:5000"
    )
    assert warning.endswith("; set MLFLOW_TRACKING_URI to the former, and repeat the export")


@pytest.mark.reliability
def test_two_exports_that_are_added_at_once_leave_one(
    registry: Registry, version: ModelVersion, add: Add, tmp_path: Path
) -> None:
    add("first", 1)
    threads = [Thread(target=add, args=(f"at once {number}", 10 + number)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored_ms(registry, version, tmp_path) in (10, 11)
    assert len(folders(version)) == 1


@pytest.mark.reliability
def test_full_storage_keeps_the_earlier_export_and_no_part_of_the_new_one(
    store: Store, scene_model: Path, scene_job: JobSpec, tmp_path: Path
) -> None:
    with small_disk("32m") as disk:
        registry = Registry(Store(store.tracking_uri, disk.as_uri()))
        version = register(registry, scene_model, "full storage")
        variant = write_channel_means(tmp_path / "first", scene_job, runtime_ms=1)
        registry.add_export(version, tmp_path / "first", variant.result)
        before = folders(version)
        other = write_channel_means(tmp_path / "other", scene_job, runtime_ms=2)
        (tmp_path / "other" / "weights.bin").write_bytes(bytes(1 << 20))
        filler = fill(disk, free_bytes=1 << 18)
        with pytest.raises(RegistryError, match="No space left on device"):
            registry.add_export(version, tmp_path / "other", other.result)
        filler.unlink()
        assert folders(version) == before
        assert stored_ms(registry, version, tmp_path) == 1
