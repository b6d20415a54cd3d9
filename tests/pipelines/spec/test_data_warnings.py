"""Warnings about training splits that are small for the document's settings."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.base.records import DatasetIndex, ImageRecord
from pipelines.spec.data_warnings import data_warnings
from pipelines.spec.load import apply_override, validate_document


@pytest.mark.parametrize(
    ("num_images", "batch_size", "processes", "expected"),
    [
        (98, 500, 1, ["batch_size: got 500, but the training split has only 98 labeled images"]),
        (98, 60, 2, ["batch_size: got 60 for each of 2 processes, but the training split has only 98"]),
        (2, 4, 1, ["batch_size: got 4, but", "data.sources: the training split has only 2 labeled images;"]),
        (1, 1, 1, ["data.sources: the training split has only 1 labeled image;"]),
        (24, 8, 1, ["data.sources.*.batch_size: an epoch has only 2 optimizer steps (24 images)"]),
        (200, 4, 1, []),
        (0, 4, 1, []),
    ],
)
def test_small_training_splits_are_warned_about(
    num_images: int, batch_size: int, processes: int, expected: list[str], small: dict[str, Any]
) -> None:
    job = validate_document(apply_override(small, "data.sources.shapes.batch_size", batch_size))
    records = [
        ImageRecord(number, "shapes", "train", "a.png", Path("a.png"), labels={"scene": ["a"]})
        for number in range(num_images)
    ]
    unlabeled = [ImageRecord(number, "shapes", "train", "b.png", Path("b.png")) for number in range(300)]
    warnings = list(data_warnings(job, DatasetIndex({"train": [*records, *unlabeled]}, {}), processes))
    assert len(warnings) == len(expected)
    assert all(text in warning for text, warning in zip(expected, warnings, strict=True)), warnings
