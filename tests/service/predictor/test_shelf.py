import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import RegistryError
from pipelines.inference.predictor import Predictor
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.model_files import ModelFiles
from service.predictor.shelf import Loaded, NoSuchModel, Shelf, Wish

Register = Callable[[Path, str], ModelVersion]


def wait_until(is_so: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (answer := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


@pytest.fixture
def loads() -> list[Path]:
    """What was loaded, in order."""
    return []


@pytest.fixture
def make_shelf(service_registry: Registry, loads: list[Path], tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    shelves: list[Shelf] = []

    def load(path: Path) -> Predictor:
        loads.append(path)
        return Predictor.from_exported(path, device="cpu")

    def make(capacity: int = 4, registry: Registry = service_registry) -> Shelf:
        shelves.append(Shelf(registry, ModelFiles(tmp_path / "models", capacity), capacity, 0.05, load))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.close()


def take(shelf: Shelf, wish: Wish) -> Loaded:
    shelf.fetch(wish)
    loaded = shelf.borrow(wish)
    assert loaded is not None
    return loaded


def test_a_model_is_loaded_once_however_many_ask(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], loads: list[Path]
) -> None:
    shelf = make_shelf()
    wishes = [Wish(shapes[0].name, 1), Wish(shapes[0].name, 1)] * 4
    with ThreadPoolExecutor(8) as threads:
        loaded = list(threads.map(lambda wish: take(shelf, wish), wishes))
    assert len(loads) == 1
    assert {id(one) for one in loaded} == {id(loaded[0])}
    assert loaded[0].version.version == 1


def test_the_model_used_least_recently_is_put_away_with_its_files(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], register: Register, exported: list[Path],
    loads: list[Path],
) -> None:  # fmt: skip
    name = shapes[0].name
    register(exported[0], "third")
    shelf = make_shelf(capacity=2)
    wishes = [Wish(name, 1), Wish(name, 2), Wish("third", 1)]
    for wish in (wishes[0], wishes[1], wishes[0], wishes[2]):
        shelf.give_back(take(shelf, wish))
    assert [shelf.borrow(wish) is not None for wish in wishes] == [True, False, True]
    assert [path.exists() for path in loads] == [True, False, True]


def test_a_model_in_use_stays_however_many_come(make_shelf: Callable[..., Shelf], shapes: list[ModelVersion]) -> None:
    shelf = make_shelf(capacity=1)
    first, second = Wish(shapes[0].name, 1), Wish(shapes[0].name, 2)
    in_use = take(shelf, first)
    shelf.give_back(take(shelf, second))
    again = shelf.borrow(first)
    assert again is in_use
    shelf.give_back(in_use)
    shelf.give_back(again)
    shelf.give_back(take(shelf, second))
    assert shelf.borrow(first) is None


def test_an_alias_that_moves_is_followed_without_a_gap(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "champion", 1)
    shelf, wish = make_shelf(), Wish(name, "champion")
    before = take(shelf, wish)
    service_registry.set_alias(name, "champion", 2)

    def served() -> int:
        loaded = shelf.borrow(wish)
        assert loaded is not None, "the old version is served until the new one is loaded"
        shelf.give_back(loaded)
        return loaded.version.version

    wait_until(lambda: served() == 2)
    assert before.predictor.predict([]) == []
    assert before.version.version == 1


def test_an_alias_that_is_removed_is_not_served_any_more(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "passing", 1)
    shelf, wish = make_shelf(), Wish(name, "passing")
    take(shelf, wish)
    service_registry.remove_alias(name, "passing")
    wait_until(lambda: shelf.borrow(wish) is None)
    with pytest.raises(NoSuchModel, match=f"{name}@passing"):
        shelf.fetch(wish)


@pytest.mark.parametrize("wish", [Wish("nobody", "champion"), Wish("nobody", 1), Wish("..", 1), Wish("it's", "x")])
def test_what_is_not_registered_is_told(make_shelf: Callable[..., Shelf], wish: Wish) -> None:
    with pytest.raises(NoSuchModel):
        make_shelf().fetch(wish)


class Unpluggable(Registry):
    """A registry that stops to answer."""

    is_unplugged = threading.Event()
    num_refused = 0

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        if self.is_unplugged.is_set():
            self.num_refused += 1
            raise RegistryError("unplugged")
        return super().by_alias(name, alias)


def test_without_the_registry_known_models_are_served_on(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], service_registry: Registry
) -> None:
    service_registry.set_alias(shapes[0].name, "steady", 1)
    registry = Unpluggable(service_registry.store)
    shelf, wish = make_shelf(registry=registry), Wish(shapes[0].name, "steady")
    take(shelf, wish)
    registry.is_unplugged.set()
    wait_until(lambda: registry.num_refused >= 2)
    assert shelf.borrow(wish) is not None
    with pytest.raises(RegistryError):
        shelf.fetch(Wish(shapes[0].name, "other"))


def test_a_name_used_again_gets_its_own_model(
    service_registry: Registry, register: Register, exported: list[Path], tmp_path: Path
) -> None:
    files = ModelFiles(tmp_path, 4)
    first = register(exported[0], "used again")
    paths = [files.fetch(service_registry, first)]
    connect_and_delete(service_registry, "used again")
    second = register(exported[1], "used again")
    paths.append(files.fetch(service_registry, second))
    assert first.version == second.version == 1
    weights = [(path / "model.safetensors").read_bytes() for path in paths]
    assert weights == [(folder / "model.safetensors").read_bytes() for folder in exported]


def connect_and_delete(registry: Registry, name: str) -> None:
    from pipelines.tracking.mlflow_store import connect

    connect(registry.store).delete_registered_model(name)


def test_files_of_earlier_processes_are_used_and_the_oldest_removed(
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


def test_a_damaged_copy_is_made_anew(
    make_shelf: Callable[..., Shelf], shapes: list[ModelVersion], loads: list[Path]
) -> None:
    wish = Wish(shapes[0].name, 1)
    take(make_shelf(), wish)
    for file in loads[0].iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert take(make_shelf(), wish).version.version == 1
