"""Rules keep the newest items up to an age, a number and a size."""

import pytest

from service.retention.candidates import DeletedKind, Deletion
from service.retention.rules import Item, Rule, exceeding

ITEMS = [("a", 10, 5), ("b", 20, 1), ("c", 30, 5), ("d", 40, 1)]
"""Name, age and size, newest first."""


def kept(rule: Rule) -> str:
    items = [Item(name, time=100.0 - age, measure=lambda size=size: size) for name, age, size in ITEMS]
    dropped = {name for name, _ in exceeding(items, rule, now=100.0)}
    return "".join(name for name, *_ in ITEMS if name not in dropped)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("keep"), "abcd"),
        (Rule("keep", max_age_s=20), "ab"),
        (Rule("keep", max_age_s=1), ""),
        (Rule("keep", max_count=3), "abc"),
        (Rule("keep", max_count=0), ""),
        (Rule("keep", max_bytes=6), "ab"),
        (Rule("keep", max_bytes=10), "ab"),  # c does not fit, so nothing older is kept
        (Rule("keep", max_bytes=11), "abc"),
        (Rule("keep", max_bytes=0), ""),
        (Rule("keep", max_age_s=35, max_count=2, max_bytes=100), "ab"),
        (Rule("keep", max_age_s=15, max_count=9, max_bytes=4), ""),
    ],
)
def test_items_beyond_any_limit_are_dropped(rule: Rule, expected: str) -> None:
    assert kept(rule) == expected


def test_units_count_and_older_items_are_dropped_with_the_first_that_does_not_fit() -> None:
    items = [Item(name, 0.0, lambda: 0, count=count) for name, count in (("a", 3), ("b", 3), ("c", 1))]
    assert [name for name, _ in exceeding(items, Rule("keep_events", max_count=5), now=0.0)] == ["b", "c"]


def test_reason_names_the_setting() -> None:
    items = [Item("a", 0.0, lambda: 7)]
    limits = {"max_age_s": 3600.0}, {"max_count": 0}, {"max_bytes": 6}
    reasons = [next(iter(exceeding(items, Rule("keep_logs", **limit), now=86400.0)))[1] for limit in limits]
    assert reasons[0] == "1 day, 0:00:00 old; keep_logs_s keeps them for 1:00:00"
    assert reasons[1:] == ["keep_logs keeps the newest 0", "keep_logs_bytes keeps the newest 6 bytes"]


def test_size_is_measured_only_for_a_rule_that_limits_it() -> None:
    def measure() -> int:
        raise AssertionError("a folder was read")

    assert list(exceeding([Item("a", 0.0, measure)], Rule("keep", max_age_s=5, max_count=1), now=1.0)) == []


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        (DeletedKind.JOB, "job 1a2b"),
        (DeletedKind.LOG, "log of job 1a2b"),
        (DeletedKind.DATASET, "data set shapes@0123456789ab"),
    ],
)
def test_log_names_what_is_deleted(kind: DeletedKind, subject: str) -> None:
    assert Deletion(kind, "1a2b", "shapes@0123456789ab", "too old").subject == subject
