"""Boxes that enclose polygons, rotated boxes and masks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from pycocotools import mask as coco_mask

from pipelines.formats.outlines import rotated_box, segmentation_box

MASKS = st_numpy.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))


@given(MASKS)
def test_box_of_a_mask_is_that_of_pycocotools(mask_HW: Any) -> None:
    compressed = coco_mask.encode(np.asfortranarray(mask_HW))
    text = compressed["counts"].decode()
    flat = mask_HW.flatten(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    runs = np.diff([0, *changes, flat.size]).tolist()
    for counts in (text, runs):
        box = segmentation_box({"size": list(mask_HW.shape), "counts": counts})
        assert box == (tuple(coco_mask.toBbox(compressed)) if mask_HW.any() else "is empty")


def test_box_of_long_runs_is_read() -> None:
    mask_HW = np.zeros((3000, 2000), np.uint8)
    mask_HW[100:2900, 700:1900] = 1
    text = coco_mask.encode(np.asfortranarray(mask_HW))["counts"].decode()
    assert segmentation_box({"size": [3000, 2000], "counts": text}) == (700, 100, 1200, 2800)


@pytest.mark.parametrize(
    "polygons", [[[1, 2, 5.5, 2, 3, 9]], [1, 2, 5.5, 2, 3, 9], [[2, 2, 3, 9, 2, 4], [], [1, 3, 5.5, 2, 2, 2]]]
)
def test_box_of_polygons_encloses_all_of_them(polygons: Any) -> None:
    assert segmentation_box(polygons) == (1, 2, 4.5, 7)


@pytest.mark.parametrize(
    ("segmentation", "fragment"),
    [
        ([], "is empty"),
        ([[]], "is empty"),
        ({"size": [2, 2], "counts": [4]}, "is empty"),
        ([[1, 2, 3, 4]], "has a polygon of 4 values"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has a polygon of 7 values"),
        ([[1, 2, 3, 4, 5, "6"]], "write x and y of at least three points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "write x and y of at least three points"),
        ("text", "is not a list of polygons"),
        ([1, [2]], "is not a list of polygons"),
        ({}, "has the 'size' None"),
        ({"size": [0, 2], "counts": []}, "has the 'size' [0, 2]"),
        ({"size": [2, 2]}, "neither a list of integers nor a text"),
        ({"size": [2, 2], "counts": [1.5]}, "neither a list of integers nor a text"),
        ({"size": [2, 2], "counts": [1, 9]}, "do not cover its size, 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "do not cover its size"),
        ({"size": [2, 2], "counts": "\u00ff!"}, "do not cover its size"),
    ],
)
def test_broken_segmentation_is_described(segmentation: Any, fragment: str) -> None:
    assert fragment in str(segmentation_box(segmentation))


def test_rotated_box_is_enclosed() -> None:
    assert rotated_box((10, 10, 20, 10), 0, (20, 15)) == (10, 10, 20, 10)
    assert rotated_box((10, 10, 20, 10), 90, (20, 15)) == pytest.approx((15, 5, 10, 20))
    assert rotated_box((10, 10, 20, 10), 90, (10, 10)) == pytest.approx((0, 10, 10, 20))


@pytest.mark.parametrize("counts", ["~" * 10_000, "o" * 10_000, "é", "!"])
def test_text_that_is_not_compressed_runs_is_refused_at_once(counts: str) -> None:
    assert "run lengths that do not cover" in segmentation_box({"size": [4, 4], "counts": counts})
