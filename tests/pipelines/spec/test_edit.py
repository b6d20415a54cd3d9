"""Fields of a document's text are set without changes to anything else."""

import pytest

from pipelines.spec.edit import with_fields
from pipelines.spec.load import read_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  b:\n    c: 1  # one\n", "a:\n  b:\n    new: x\n    c: 1  # one\n"),
        ("a: {b: {c: 1}}  # flow\n", "a: {b: {new: x, c: 1}}  # flow\n"),
        ("a:\n  b:\n    new: old  # why\n    c: 1\n", "a:\n  b:\n    new: x  # why\n    c: 1\n"),
        ("a:\n  b: {new: 'a, b', c: 1}\n", "a:\n  b: {new: x, c: 1}\n"),
    ],
)
def test_field_is_added_or_replaced(text: str, expected: str) -> None:
    assert with_fields(text, ("a", "b"), {"new": "x"}) == expected


def test_mapping_is_written_in_one_line() -> None:
    text = with_fields("a:\n  b:\n    c: 1\n", ("a", "b"), {"s": {"train": "train", "val": "2"}})
    assert text == "a:\n  b:\n    s: {train: train, val: '2'}\n    c: 1\n"
    assert read_yaml(text or "", "t")["a"]["b"]["s"] == {"train": "train", "val": "2"}


@pytest.mark.parametrize("text", ["a: 1\n", "b: {}\n", "a: {b: {}}\n", "x: &x {c: 1}\na: {b: *x, d: *x}\n"])
def test_text_that_cannot_be_changed_in_place_is_left(text: str) -> None:
    assert with_fields(text, ("a", "b"), {"new": "x"}) is None
