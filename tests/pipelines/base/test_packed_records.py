"""Records in arrays: they equal the records that were packed, and survive a file."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.packed_records import PackedRecords
from pipelines.base.records import BoxLabel, ImageRecord

BOX = BoxLabel(7, "cat", (0.1, 1e-17, 3.0000000000000004, 4.0))
LABELS: list[dict[str, Any]] = [
    {},
    {"things": [], "kind": ["day"]},
    {"things": [BOX, BoxLabel(2**53, "dög", (-0.0, 0.5, 1.0, 2.0), True, 3.25, "tom", True)], "kind": []},
    {"kind": ["night", "day"]},
    {"things": [BoxLabel(1, "tom", (1.0, 2.0, 3.0, 4.0), area=0.0, identity="cat")]},
]


def record(number: int, labels: dict[str, Any]) -> ImageRecord:
    name = f"deep/{number}\udce9 \u6f22.png"
    return ImageRecord(number, "ab"[number % 2], "train", name, Path("/data") / name, 40 + number, 60, labels)


RECORDS = [record(number, labels) for number, labels in enumerate(LABELS, start=3)]


@pytest.fixture
def packed() -> PackedRecords:
    return PackedRecords.pack("train", RECORDS)


def test_packed_records_equal_the_records(packed: PackedRecords) -> None:
    assert packed == RECORDS
    assert list(packed) == RECORDS
    assert packed[-1] == RECORDS[-1]
    assert packed[1:4:2] == RECORDS[1:4:2]
    assert (len(packed), PackedRecords.pack("val", [])) == (5, [])
    with pytest.raises(IndexError):
        packed[5]


def test_types_and_signs_of_values_are_kept(packed: PackedRecords) -> None:
    boxes = packed[2].labels["things"]
    assert repr(boxes) == repr(RECORDS[2].labels["things"])
    assert {type(value) for value in vars(packed[2]).values()} >= {int, str}


def test_tasks_without_labels_are_missing(packed: PackedRecords) -> None:
    assert [list(one.labels) for one in packed] == [[], ["kind", "things"], ["kind", "things"], ["kind"], ["things"]]
    assert ("things" in packed[1].labels, "things" in packed[3].labels, "other" in packed[1].labels) == (
        True,
        False,
        False,
    )
    assert packed[3].labels.get("things") is None
    with pytest.raises(KeyError):
        packed[0].labels["things"]


def test_arrays_contain_everything(packed: PackedRecords) -> None:
    assert PackedRecords.from_arrays("train", packed.names(), packed.to_arrays("x/"), "x/") == RECORDS
    assert pickle.loads(pickle.dumps(packed)) == RECORDS
