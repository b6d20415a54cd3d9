"""Tests of the registry with a real MLflow store in SQLite."""

import socket
import time
from pathlib import Path

import pytest

from pipelines.base.errors import RegistryError
from pipelines.base.records import Category
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.mlflow_store import Store, connect, find_experiment, find_store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.promotion import promote_if_better
from pipelines.tracking.registry import Registry

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")

Categories = dict[str, list[Category]]
SELECT = SelectSpec(metric="val/cells/AP", mode="max")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder to register in place of an exported model, since the registry does not read its files."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "model.json").write_text("{}")
    return folder


def register(registry: Registry, exported: Path, name: str, ap: float | None, data: str = "data 1") -> ModelVersion:
    """Register the exported model as the model of a new run."""
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    return registry.register(
        exported, name=name, run_id=run_id, metrics={"val/cells/AP": ap}, select=SELECT, val_fingerprint=data
    )


def unexpected_score(version: ModelVersion) -> float:
    pytest.fail(f"{version} was scored")


def test_registering_a_run_twice_creates_one_version(registry: Registry, folder: Path) -> None:
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    metrics = {"val/cells/AP": 1 / 3, "val/cells/APl": None}
    versions = [
        registry.register(
            folder,
            name="twice",
            run_id=run_id,
            metrics=metrics,
            select=SELECT,
            val_fingerprint="data 1",
        )
        for _ in range(2)
    ]
    assert versions[0] == versions[1]
    assert registry.versions("twice") == versions[:1]
    version = versions[0]
    assert (version.version, version.aliases, version.run_id) == (1, ("candidate",), run_id)
    assert version.metric("val/cells/AP") == 1 / 3
    assert version.metric("val/cells/APl") is None
    assert version.val_fingerprint == "data 1"
    assert client.get_run(run_id).outputs.model_outputs
    assert list(Path().iterdir()) == []


def test_newest_version_becomes_and_stays_the_candidate(registry: Registry, folder: Path) -> None:
    first = register(registry, folder, "newest", 0.5)
    second = register(registry, folder, "newest", 0.4)
    again = registry.register(
        folder, name="newest", run_id=str(first.run_id), metrics={}, select=SELECT, val_fingerprint="data 1"
    )
    assert again.version == first.version == 1
    assert [v.version for v in registry.versions("newest")] == [2, 1]
    candidate = registry.by_alias("newest", "candidate")
    assert candidate is not None
    assert candidate.version == second.version == 2


def test_first_version_becomes_champion(registry: Registry, folder: Path) -> None:
    version = register(registry, folder, "first", 0.5)
    outcome = promote_if_better(
        registry, version, select=SELECT, val_fingerprint="data 1", score=unexpected_score, by="tests"
    )
    assert (outcome.is_promoted, outcome.reason) == (True, "first")
    champion = registry.by_alias("first", "champion")
    assert champion is not None
    assert champion.aliases == ("candidate", "champion")
    again = promote_if_better(
        registry, version, select=SELECT, val_fingerprint="data 1", score=unexpected_score, by="tests"
    )
    assert (again.is_promoted, again.reason) == (False, "same")


@pytest.fixture(scope="module")
def shared_registry(mlflow_runs_root: Path) -> Registry:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Registry(find_store(mlflow_runs_root))


@pytest.fixture(scope="module")
def challengers(shared_registry: Registry, folder: Path) -> dict[float, ModelVersion]:
    """Versions of one model by their AP on the same data; before them, the first version has the AP 0.5."""
    register(shared_registry, folder, "challenged", 0.5)
    return {ap: register(shared_registry, folder, "challenged", ap) for ap in (0.4, 0.5, 0.6)}


@pytest.mark.parametrize(
    ("mode", "value", "is_promoted"),
    [("max", 0.6, True), ("max", 0.5, False), ("max", 0.4, False), ("min", 0.4, True), ("min", 0.6, False)],
)
def test_stored_metrics_of_the_same_data_decide(
    mode: str, value: float, is_promoted: bool, registry: Registry, challengers: dict[float, ModelVersion]
) -> None:
    select = SelectSpec.model_validate({"metric": "val/cells/AP", "mode": mode})
    registry.set_alias("challenged", "champion", 1)
    outcome = promote_if_better(
        registry, challengers[value], select=select, val_fingerprint="data 1", score=unexpected_score, by="tests"
    )
    assert (outcome.is_promoted, outcome.reason, outcome.champion_value) == (is_promoted, "stored", 0.5)
    now = registry.by_alias("challenged", "champion")
    assert now is not None
    assert now.version == (challengers[value].version if is_promoted else 1)


@pytest.fixture(scope="module")
def challenger_of_other_data(shared_registry: Registry, folder: Path) -> ModelVersion:
    """The second version of a model whose first version has the AP of other data."""
    register(shared_registry, folder, "scored", 0.9, data="data of last year")
    return register(shared_registry, folder, "scored", 0.5)


@pytest.mark.parametrize(("scored", "is_promoted"), [(0.3, True), (0.7, False), (None, False), (float("nan"), False)])
def test_champion_of_other_data_is_scored_again(
    scored: float | None, is_promoted: bool, registry: Registry, challenger_of_other_data: ModelVersion
) -> None:
    registry.set_alias("scored", "champion", 1)
    scored_versions: list[int] = []

    def score(version: ModelVersion) -> float | None:
        scored_versions.append(version.version)
        return scored

    outcome = promote_if_better(
        registry, challenger_of_other_data, select=SELECT, val_fingerprint="data 1", score=score, by="tests"
    )
    assert scored_versions == [1]
    assert outcome.is_promoted == is_promoted
    assert outcome.reason == ("scored" if scored in (0.3, 0.7) else "undefined")
    now = registry.by_alias("scored", "champion")
    assert now is not None
    assert now.version == (2 if is_promoted else 1)


def test_version_with_an_undefined_metric_does_not_become_champion(registry: Registry, folder: Path) -> None:
    version = register(registry, folder, "undefined", None)
    outcome = promote_if_better(
        registry, version, select=SELECT, val_fingerprint="data 1", score=unexpected_score, by="tests"
    )
    assert (outcome.is_promoted, outcome.reason) == (False, "undefined")
    assert registry.by_alias("undefined", "champion") is None


def test_missing_model_has_no_versions_and_no_aliases(registry: Registry) -> None:
    assert registry.versions("absent") == []
    assert registry.by_alias("absent", "champion") is None
    assert registry.version("absent", 1) is None
    assert registry.aliases("absent") is None
    assert "absent" not in {model.name for model in registry.models()}


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "a:b", "..", "' OR ''='"])
def test_special_characters_in_names_are_escaped(name: str, registry: Registry) -> None:
    assert registry.versions(name) == []
    assert registry.by_alias(name, "champion") is None


def test_alias_can_be_moved_and_removed(registry: Registry, folder: Path) -> None:
    for ap in (0.5, 0.6):
        register(registry, folder, "moved", ap)
    registry.set_alias("moved", "champion", 1)
    model = next(model for model in registry.models() if model.name == "moved")
    assert (model.aliases, model.latest_version) == ({"candidate": 2, "champion": 1}, 2)
    registry.set_alias("moved", "champion", 2)
    assert registry.aliases("moved") == {"candidate": 2, "champion": 2}
    registry.remove_alias("moved", "champion")
    assert registry.aliases("moved") == {"candidate": 2}


def test_version_stores_the_metrics_for_comparisons(registry: Registry, folder: Path) -> None:
    before = time.time()
    register(registry, folder, "stored", 0.5)
    version = registry.version("stored", 1)
    assert version is not None
    assert (version.select, version.val_metrics) == ("max val/cells/AP", {"val/cells/AP": 0.5})
    assert before - 1 <= version.created_at <= time.time() + 1


def test_store_that_does_not_answer_is_a_registry_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port}") as caught:
        Registry(Store(f"http://me:secret@127.0.0.1:{port}")).versions("any")
    assert "secret" not in str(caught.value)
