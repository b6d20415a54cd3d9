import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.base.errors import RegistryError
from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.inference.predictor import Predictor
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.loading import PredictorLoader
from service.predictor.model_cache import LoadedModel, ModelCache, ModelNotFound, ModelReference
from tests.service.conftest import SELECT
from tests.service.waiting import wait_until

Register = Callable[[Path, str], ModelVersion]


class CountingLoader(PredictorLoader):
    """A loader that notes the versions that it has loaded, in their order, and calls `during_load` at each."""

    loads: list[ModelVersion]
    during_load: Callable[[RuntimeChoice], None] = staticmethod(lambda choice: None)

    def load(self, version: ModelVersion, choice: RuntimeChoice) -> tuple[Predictor, str]:
        self.loads.append(version)
        self.during_load(choice)
        return super().load(version, choice)


@pytest.fixture
def loads() -> list[ModelVersion]:
    """The versions that were loaded, in the order of loading."""
    return []


@pytest.fixture
def make_cache(
    service_registry: Registry, loads: list[ModelVersion], tmp_path: Path
) -> Iterator[Callable[..., ModelCache]]:
    caches: list[ModelCache] = []

    def make(capacity: int = 4, registry: Registry = service_registry) -> ModelCache:
        loader = CountingLoader(registry, ModelFiles(tmp_path / "models", capacity), 1, 8)
        loader.loads = loads
        caches.append(ModelCache(registry, loader, capacity, 0.05))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def take(cache: ModelCache, reference: ModelReference) -> LoadedModel:
    cache.fetch(reference)
    loaded = cache.acquire(reference)
    assert loaded is not None
    return loaded


def test_concurrent_requests_load_a_model_once(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], loads: list[ModelVersion]
) -> None:
    cache = make_cache()
    references = [ModelReference(shapes[0].name, 1), ModelReference(shapes[0].name, 1)] * 4
    with ThreadPoolExecutor(8) as threads:
        loaded = list(threads.map(lambda reference: take(cache, reference), references))
    assert len(loads) == 1
    assert {id(one) for one in loaded} == {id(loaded[0])}
    assert loaded[0].version.version == 1


def test_least_recently_used_model_is_evicted_with_its_files(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], register: Register, exported: list[Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    name = shapes[0].name
    register(exported[0], "third")
    cache = make_cache(capacity=2)
    references = [ModelReference(name, 1), ModelReference(name, 2), ModelReference("third", 1)]
    for reference in (references[0], references[1], references[0], references[2]):
        cache.release(take(cache, reference))
    assert [cache.acquire(reference) is not None for reference in references] == [True, False, True]
    folders = [tmp_path / "models" / model / f"{number}-*" for model, number in ((name, 1), (name, 2), ("third", 1))]
    assert [len(list(folder.parent.glob(folder.name))) for folder in folders] == [1, 0, 1]


def test_model_in_use_is_not_evicted(make_cache: Callable[..., ModelCache], shapes: list[ModelVersion]) -> None:
    cache = make_cache(capacity=1)
    first, second = ModelReference(shapes[0].name, 1), ModelReference(shapes[0].name, 2)
    in_use = take(cache, first)
    cache.release(take(cache, second))
    again = cache.acquire(first)
    assert again is in_use
    cache.release(in_use)
    cache.release(again)
    cache.release(take(cache, second))
    assert cache.acquire(first) is None


def test_requests_are_served_while_an_alias_moves(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "champion", 1)
    cache, reference = make_cache(), ModelReference(name, "champion")
    before = take(cache, reference)
    service_registry.set_alias(name, "champion", 2)

    def served() -> int:
        loaded = cache.acquire(reference)
        assert loaded is not None, "the old version is served until the new one is loaded"
        cache.release(loaded)
        return loaded.version.version

    wait_until(lambda: served() == 2, "the new version")
    assert before.predictor.predict([]) == []
    assert before.version.version == 1


def test_files_of_a_version_are_kept_while_it_is_loaded_for_another_runtime(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = shapes[0].name
    cache = make_cache(capacity=1)
    cache.release(take(cache, ModelReference(name, 1, "torch")))
    (files,) = (tmp_path / "models" / name).glob("1-*")
    present: list[bool] = []

    def evict(choice: RuntimeChoice) -> None:
        if choice == "auto":
            cache.fetch(ModelReference(name, 2, "torch"))
            present.append(files.is_dir())

    monkeypatch.setattr(CountingLoader, "during_load", staticmethod(evict))
    take(cache, ModelReference(name, 1, "auto"))
    assert present == [True]


def test_new_export_is_served_as_soon_as_it_is_loaded(
    make_cache: Callable[..., ModelCache], scene: ModelVersion, add_export: Callable[..., object]
) -> None:
    cache, reference = make_cache(), ModelReference(scene.name, 1)
    in_torch = ModelReference(scene.name, 1, "torch")
    before, unaffected = take(cache, reference), take(cache, in_torch)
    assert (before.runtime, unaffected.runtime) == ("torch", "torch")
    add_export()

    def served() -> str:
        loaded = cache.acquire(reference)
        assert loaded is not None, "torch serves until the export is loaded"
        cache.release(loaded)
        return loaded.runtime

    wait_until(lambda: served() == "onnxruntime-fp32", "the export")
    assert cache.acquire(in_torch) is unaffected


def test_removed_alias_is_no_longer_served(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "passing", 1)
    cache, reference = make_cache(), ModelReference(name, "passing")
    take(cache, reference)
    service_registry.remove_alias(name, "passing")
    wait_until(lambda: cache.acquire(reference) is None, "the end of the alias")
    with pytest.raises(ModelNotFound, match=f"{name}@passing"):
        cache.fetch(reference)


@pytest.mark.parametrize(
    "reference",
    [
        ModelReference("unknown", "champion"),
        ModelReference("unknown", 1),
        ModelReference("..", 1),
        ModelReference("it's", "x"),
    ],
)
def test_unregistered_model_is_not_found(make_cache: Callable[..., ModelCache], reference: ModelReference) -> None:
    with pytest.raises(ModelNotFound):
        make_cache().fetch(reference)


class InterruptibleRegistry(Registry):
    """A registry that can stop responding."""

    is_unplugged = threading.Event()
    num_refused = 0

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        if self.is_unplugged.is_set():
            self.num_refused += 1
            raise RegistryError("unplugged")
        return super().by_alias(name, alias)


def test_known_models_are_served_while_the_registry_is_down(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    service_registry.set_alias(shapes[0].name, "steady", 1)
    registry = InterruptibleRegistry(service_registry.store)
    cache, reference = make_cache(registry=registry), ModelReference(shapes[0].name, "steady")
    take(cache, reference)
    registry.is_unplugged.set()
    wait_until(lambda: registry.num_refused >= 2, "two refused calls")
    assert cache.acquire(reference) is not None
    with pytest.raises(RegistryError):
        cache.fetch(ModelReference(shapes[0].name, "other"))


def test_recreated_model_gets_its_own_files(
    service_registry: Registry, register: Register, exported: list[Path], tmp_path: Path
) -> None:
    """Even if the same run has registered it."""
    files = ModelFiles(tmp_path, 4)
    first = register(exported[0], "recreated")
    paths = [files.fetch(service_registry, first)]
    delete_model(service_registry, "recreated")
    second = service_registry.register(
        exported[1], name="recreated", run_id=str(first.run_id), metrics={}, select=SELECT, val_fingerprint="data 1"
    )
    paths.append(files.fetch(service_registry, second))
    assert (first.version, first.run_id) == (second.version, second.run_id)
    weights = [(path / "model.safetensors").read_bytes() for path in paths]
    assert weights == [(folder / "model.safetensors").read_bytes() for folder in exported]


def delete_model(registry: Registry, name: str) -> None:
    from pipelines.tracking.mlflow_store import connect

    connect(registry.store).delete_registered_model(name)


def test_files_of_earlier_processes_are_reused_and_the_oldest_are_removed(
    service_registry: Registry, shapes: list[ModelVersion], register: Register, exported: list[Path], tmp_path: Path
) -> None:
    files = ModelFiles(tmp_path, 4)
    paths = [files.fetch(service_registry, version) for version in shapes]
    (tmp_path / ".partial-x").mkdir()
    written = (paths[0] / "model.json").stat().st_ino
    assert files.fetch(service_registry, shapes[0]) == paths[0]
    later = ModelFiles(tmp_path, 1)
    assert [path.exists() for path in paths] == [True, False]
    assert not (tmp_path / ".partial-x").exists()
    assert (later.fetch(service_registry, shapes[0]) / "model.json").stat().st_ino == written


def test_damaged_copy_is_fetched_again(
    make_cache: Callable[..., ModelCache], shapes: list[ModelVersion], tmp_path: Path
) -> None:
    reference = ModelReference(shapes[0].name, 1)
    take(make_cache(), reference)
    for file in (tmp_path / "models").glob("*/*/model.*"):
        file.write_bytes(file.read_bytes()[:100])
    assert take(make_cache(), reference).version.version == 1
