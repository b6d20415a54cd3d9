"""Promotion while others promote too, with a real MLflow store in SQLite."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.spec.learning import SelectSpec
from pipelines.spec.training import PromoteIf
from pipelines.tracking.challenge import Interval, Promotion
from pipelines.tracking.mlflow_store import Store, connect, find_experiment, find_store
from pipelines.tracking.model_versions import SHA256_TAG, SIZE_TAG, ModelVersion
from pipelines.tracking.promotion import AliasMoved, alias_moves, move_alias, promote_if_better
from pipelines.tracking.registry import CHAMPION, Registry

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")

SELECT = SelectSpec(metric="val/cells/AP", mode="max")


@pytest.fixture
def create(store: Store) -> Callable[..., ModelVersion]:
    """Create a version without files; `ap` may be any text."""
    client = connect(store)

    def create(name: str, ap: str, data: str = "data 1", source: str = "file:///nowhere") -> ModelVersion:
        registry = Registry(store)
        if registry.aliases(name) is None:
            client.create_registered_model(name)
        run_id = client.create_run(find_experiment(client, store, "tests")).info.run_id
        tags = {"val/cells/AP": ap, "pyramidion.val_fingerprint": data}
        row = client.create_model_version(name, source, run_id=run_id, tags=tags)
        version = registry.version(name, int(row.version))
        assert version is not None
        return version

    return create


def champion_of(registry: Registry, name: str) -> int | None:
    return (registry.aliases(name) or {}).get(CHAMPION)


def promote(
    registry: Registry, version: ModelVersion, score: Callable[[ModelVersion], float | None] = lambda _: None
) -> Promotion:
    return promote_if_better(registry, version, select=SELECT, val_fingerprint="data 1", score=score, by="run x")


def test_champion_that_was_promoted_during_the_scoring_is_compared_too(
    registry: Registry, create: Callable[..., ModelVersion]
) -> None:
    _, worse, better = create("overtaken", "0.5", "data 0"), create("overtaken", "0.6"), create("overtaken", "0.9")
    registry.set_alias("overtaken", CHAMPION, 1)

    def score(champion: ModelVersion) -> float:
        assert champion.version == 1
        assert promote(registry, better, lambda _: 0.5).is_promoted
        return 0.5

    decision = promote(registry, worse, score)
    assert (decision.is_promoted, decision.reason, decision.champion_value) == (False, "stored", 0.9)
    assert champion_of(registry, "overtaken") == better.version


@pytest.mark.parametrize(
    ("interval", "mode", "is_promoted", "reason"),
    [
        ((0.01, 0.2), "max", True, "stored"),
        ((-0.01, 0.2), "max", False, "unsure"),
        ((0.0, 0.0), "max", False, "unsure"),
        (None, "max", False, "no_interval"),
        ((-0.2, -0.01), "min", True, "stored"),
        ((0.01, 0.2), "min", False, "unsure"),
    ],
)
def test_surely_better_version_needs_an_interval_without_zero(
    interval: Interval | None,
    mode: Literal["max", "min"],
    is_promoted: bool,
    reason: str,
    registry: Registry,
    create: Callable[..., ModelVersion],
) -> None:
    name = f"sure {mode} {interval}".replace(".", "_")
    champion, version = create(name, "0.5"), create(name, "0.6" if mode == "max" else "0.4")
    registry.set_alias(name, CHAMPION, champion.version)
    decision = promote_if_better(
        registry,
        version,
        select=SelectSpec(metric="val/cells/AP", mode=mode),
        val_fingerprint="data 1",
        score=lambda _: None,
        by="run x",
        promote_if="surely_better",
        interval=lambda _: interval,
    )
    assert (decision.is_promoted, decision.reason, decision.champion_value) == (is_promoted, reason, 0.5)
    assert champion_of(registry, name) == (version if is_promoted else champion).version
    tagged = registry.version(name, version.version)
    assert tagged is not None
    record = tagged.promotion
    assert record is not None
    assert (record.promote_if, record.metric, record.champion) == ("surely_better", "val/cells/AP", champion.version)
    assert (record.is_promoted, record.reason) == (is_promoted, reason)
    assert (record.low, record.high) == (interval or (None, None))


def test_interval_is_not_computed_where_the_value_decides(
    registry: Registry, create: Callable[..., ModelVersion]
) -> None:
    def unexpected(champion: ModelVersion) -> Interval:
        pytest.fail(f"the interval to {champion} was computed")

    def decide(version: ModelVersion, rule: PromoteIf) -> Promotion:
        return promote_if_better(
            registry, version, select=SELECT, val_fingerprint="data 1", score=lambda _: None, by="run x",
            promote_if=rule, interval=unexpected,
        )  # fmt: skip

    first, worse, better = create("valued", "0.5"), create("valued", "0.4"), create("valued", "0.6")
    assert decide(first, "never").reason == "by_hand"
    assert champion_of(registry, "valued") is None
    assert decide(first, "surely_better").reason == "first"
    assert decide(first, "surely_better").reason == "same"
    tagged = registry.version("valued", first.version)
    assert tagged is not None
    assert tagged.promotion is not None
    assert tagged.promotion.reason == "first", "a repeated registration keeps the decision"
    assert decide(worse, "surely_better").reason == "stored"
    decision = decide(better, "never")
    assert (decision.is_promoted, decision.champion_value, champion_of(registry, "valued")) == (False, 0.5, 1)
    assert decision.explanation("val/cells/AP") == (
        "val/cells/AP 0.6, that of champion version 1 0.5; tracking.promote_if is never"
    )
    assert decide(better, "better").is_promoted


def test_tag_that_is_no_decision_is_ignored() -> None:
    for text in ("", "{}", "[]", "not JSON"):
        assert ModelVersion("any", 1, None, {"pyramidion.promotion": text}, 0.0).promotion is None


def test_best_of_many_concurrent_runs_is_the_champion(store: Store, create: Callable[..., ModelVersion]) -> None:
    versions = [create("crowded", repr(ap)) for ap in (0.3, 0.9, 0.5, 0.7)]
    with ThreadPoolExecutor(4) as threads:
        decisions = list(threads.map(lambda version: promote(Registry(store), version), versions))
    assert champion_of(Registry(store), "crowded") == versions[1].version
    assert decisions[1].is_promoted
    moves = alias_moves(Registry(store), "crowded")
    assert len(moves) == sum(decision.is_promoted for decision in decisions)
    for move, previous in zip(moves, [*moves[1:], None], strict=True):
        assert move.from_version == (previous.to_version if previous else None)


@pytest.mark.parametrize("text", ["n/a", "", "nan", "inf"])
def test_metric_that_is_not_a_number_counts_as_missing(
    text: str, registry: Registry, create: Callable[..., ModelVersion]
) -> None:
    name = f"unreadable {text.replace('/', '')}"
    champion, version = create(name, text), create(name, "0.5")
    assert (champion.metric("val/cells/AP"), champion.val_metrics) == (None, {})
    registry.set_alias(name, CHAMPION, champion.version)
    assert promote(registry, champion).reason == "same"
    assert promote(registry, version, lambda _: 0.6).reason == "scored"
    assert promote(registry, version, lambda _: 0.4).is_promoted


@pytest.mark.parametrize("size", ["", "many", "-5", "1.5", "9" * 5000])
def test_size_that_is_not_a_number_counts_as_missing(size: str) -> None:
    tags = {SHA256_TAG: "0" * 64, SIZE_TAG: size}
    assert ModelVersion("any", 1, None, tags, 0.0).archive is None
    assert ModelVersion("any", 1, None, tags | {SIZE_TAG: "5"}, 0.0).archive is not None


def test_moves_have_a_history(registry: Registry, create: Callable[..., ModelVersion]) -> None:
    for ap in ("0.5", "0.6"):
        create("recorded", ap)
    move_alias(registry, "recorded", "stage", 1, expected=None, by="ann", reason="first tests")
    move_alias(registry, "recorded", "stage", 2, expected=1, by="bob", reason="x" * 2000)
    with pytest.raises(AliasMoved, match="recorded@stage points to version 2"):
        move_alias(registry, "recorded", "stage", 1, expected=1, by="ann", reason="")
    move_alias(registry, "recorded", "stage", None, expected=2, by="ann", reason="done")
    registry.set_tag("recorded", "pyramidion.alias_move.9", "not one of ours")
    moves = alias_moves(registry, "recorded")
    assert [(move.by, move.from_version, move.to_version) for move in moves] == [
        ("ann", 2, None), ("bob", 1, 2), ("ann", None, 1),
    ]  # fmt: skip
    assert (moves[2].reason, len(moves[1].reason)) == ("first tests", 1000)
    assert registry.aliases("recorded") == {}


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/x", "https://host/x", "ftp://host/x", "sftp://host/x"])
def test_address_of_a_stranger_is_never_fetched(
    source: str, registry: Registry, create: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    version = create("stranger", "0.5", source=source)
    with pytest.raises(ModelFilesUnavailable, match="at an address that is not fetched"):
        registry.download_exported(version, tmp_path)


def test_missing_files_differ_from_storage_that_does_not_answer(
    registry: Registry, create: Callable[..., ModelVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelFilesUnavailable, match="its files are missing"):
        registry.download_exported(create("files", "0.5", source=f"file://{tmp_path}/gone"), tmp_path)
    silent = create("files", "0.5", source="mlflow-artifacts://127.0.0.1:9/x")
    with pytest.raises(RegistryError, match="the storage of MLflow"):
        registry.download_exported(silent, tmp_path)


def use_new_store(root: Path) -> None:
    store = find_store(root)
    find_experiment(connect(store), store, "tests")
    assert Registry(store).models() == []


def test_one_of_several_first_users_creates_the_tables(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use_new_store, [tmp_path / "new"] * 4))


@pytest.mark.slow
def test_one_of_several_first_processes_creates_the_tables(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=use_new_store, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
