"""Units of images are assigned to splits with equal shares of every class."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.splitting.stratification import Unit, stratify

SHARES: Any = {"val": 0.2, "test": 0.1}


def images(*classes: str, split: Any = None) -> Unit:
    return Unit(1, dict.fromkeys(classes, 1), split)


def counts(units: list[Unit], splits: list[Any]) -> dict[Any, Counter[Any]]:
    found: dict[Any, Counter[Any]] = {"train": Counter(), "val": Counter(), "test": Counter()}
    for unit, split in zip(units, splits, strict=True):
        found[split].update({"images": unit.size, **unit.labels})
    return found


def test_each_class_has_its_share_in_each_split() -> None:
    units = [images("a")] * 70 + [images("b")] * 20 + [images("a", "b")] * 10 + [images("c")] * 10
    found = counts(units, stratify(units, SHARES, 0))
    assert {label: found["val"][label] for label in "abc"} == {"a": 16, "b": 6, "c": 2}
    assert {label: found["test"][label] for label in "abc"} == {"a": 8, "b": 3, "c": 1}
    assert (found["val"]["images"], found["test"]["images"]) in [(22, 11), (23, 11)]


def test_class_with_one_image_is_in_train() -> None:
    units = [images("a")] * 30 + [images("rare"), images("a", "other")]
    found = counts(units, stratify(units, SHARES, 3))
    assert (found["train"]["rare"], found["train"]["other"]) == (1, 1)


def test_split_without_a_share_gets_nothing() -> None:
    units = [images("a")] * 10
    assert set(stratify(units, {"val": 0.3}, 0)) == {"train", "val"}


def test_small_sets_fill_every_split() -> None:
    assert sorted(stratify([images("a"), images("b"), images("c")], SHARES, 0)) == ["test", "train", "val"]


def test_unit_keeps_the_split_that_it_has_and_counts_for_it() -> None:
    units = [images("a", split="val")] * 20 + [images("a")] * 80
    splits = stratify(units, SHARES, 0)
    assert splits[:20] == ["val"] * 20
    assert Counter(splits) == {"train": 70, "val": 20, "test": 10}


def test_split_on_disk_that_is_not_wanted_reduces_train_alone() -> None:
    units = [images("a", split="test")] * 30 + [images("a")] * 70
    assert Counter(stratify(units, {"val": 0.2}, 0)) == {"train": 50, "val": 20, "test": 30}


@st.composite
def sets_of_images(draw: Any) -> list[Unit]:
    """Sets in which every class is frequent enough for all splits."""
    classes = "abc"[: draw(st.integers(1, 3))]
    combinations = st.lists(st.sampled_from(classes), max_size=3, unique=True)
    return [images(*draw(combinations)) for _ in range(draw(st.integers(40, 120)))]


@settings(max_examples=60)
@given(sets_of_images(), st.integers(0, 5))
def test_shares_are_met_to_two_images_and_the_seed_decides(units: list[Unit], seed: int) -> None:
    splits = stratify(units, SHARES, seed)
    assert splits == stratify(units, SHARES, seed)
    found = counts(units, splits)
    total = counts(units, ["train"] * len(units))["train"]
    for split, share in SHARES.items():
        for label, count in total.items():
            assert abs(found[split][label] - share * count) <= max(2, 0.06 * count), (label, split)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from("abc")), min_size=5, max_size=60), st.integers(0, 5))
def test_groups_of_images_are_spread_by_their_size(sizes: list[tuple[int, str]], seed: int) -> None:
    units = [Unit(size, {label: size}) for size, label in sizes]
    found = counts(units, stratify(units, SHARES, seed))
    total = sum(size for size, _ in sizes)
    assert all(found[split]["images"] for split in found)
    assert found["train"]["images"] >= 0.5 * total - 5
