"""Models that were registered before a backup work in the restored root, also for MLflow's own client."""

import base64
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from pipelines.tracking.mlflow_store import Store, connect, find_experiment, find_store
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.registry import Registry
from service.backup.create import create_backup
from service.backup.restore import restore_backup
from service.settings import Settings
from service.store.database import open_database
from tests.service.conftest import SELECT, jpeg


def texts(path: Path) -> Iterator[str]:
    """Yield all texts of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield from (value for value in row if isinstance(value, str))


@contextmanager
def mlflow_at(store: Store) -> Iterator[None]:
    """Let MLflow's own functions use a store, as a user would set it."""
    import mlflow

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
        mlflow.set_tracking_uri(store.tracking_uri)
        yield
        mlflow.set_tracking_uri(cast(Any, None))


@pytest.mark.integration
def test_registered_model_loads_predicts_and_is_found_by_mlflow_in_the_restored_root(
    exported: list[Path], tmp_path: Path, no_mlflow_settings: None
) -> None:
    import mlflow

    image = pd.DataFrame({"image": [base64.b64encode(jpeg(80, 96)).decode()]})
    old, new = Settings(root=tmp_path / "old root"), Settings(root=tmp_path / "new root")
    registry = Registry(find_store(old.root))
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    client.log_text(run_id, "some text", "notes/a.txt")
    version = registry.register(
        exported[0], name="restored", run_id=run_id, metrics={"val/shapes/AP50": 0.5}, select=SELECT,
        val_fingerprint="data 1",
    )  # fmt: skip
    with mlflow_at(registry.store):
        expected = mlflow.pyfunc.load_model(version.uri).predict(image)

    engine = open_database(old.url_of_database)
    create_backup(old, engine, tmp_path / "backup")
    engine.dispose()
    restore_backup(new, tmp_path / "backup")
    for folder in (old.root, tmp_path / "backup"):
        shutil.rmtree(folder)

    assert [text for text in texts(new.root / "mlflow.db") if "old root" in text or "old%20root" in text] == []
    restored = Registry(find_store(new.root))
    (found,) = restored.versions("restored")
    files = ModelFiles(tmp_path / "cache", 1).fetch(restored, found)
    assert {path.name for path in exported[0].iterdir()} <= {path.name for path in files.iterdir()}
    with mlflow_at(restored.store):
        assert mlflow.pyfunc.load_model(found.uri).predict(image) == expected
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/a.txt") == "some text"
    own = connect(restored.store)
    assert [file.path for file in own.list_artifacts(run_id, "notes")] == ["notes/a.txt"]
    assert Path(own.download_artifacts(run_id, "notes/a.txt", str(tmp_path / "cache"))).read_text() == "some text"
