"""Arithmetic of the BCCD benchmark."""

import math
from typing import Any

import pytest

from tests.bench import bccd


def coco(*objects: tuple[str | None, float, float]) -> dict[str, Any]:
    return {"annotations": [{"identity": name, "bbox": [0, 0, width, height]} for name, width, height in objects]}


def test_macro_means_exclude_rare_subtypes_and_identities() -> None:
    result = {
        "tasks": {
            "cells": {"coco": {"AP50": 0.9, "AP": 0.5}},
            "subtype": {
                "per_class": [
                    {"top1_support": 3, "top1_recall": 1.0},
                    {"top1_support": 9, "top1_recall": 0.5},
                    {"top1_support": 2, "top1_recall": 0.0},
                ]
            },
            "lookup": {
                "per_class": [
                    {"identity": "RBC", "support": 805, "recall_at_1": 1.0},
                    {"identity": "eosinophil", "support": 5, "recall_at_1": 0.4},
                    {"identity": "basophil", "support": 4, "recall_at_1": 0.0},
                ]
            },
        }
    }
    assert list(bccd.figures(result).values()) == pytest.approx([0.9, 0.5, 0.75, 0.4, 0.7])


def test_box_size_baseline_finds_the_object_of_the_nearest_size() -> None:
    train = coco(("RBC", 100, 100), ("eosinophil", 200, 200), ("eosinophil", 0, 0), (None, 150, 150))
    test = coco(*[("RBC", 101, 99)] * 5, *[("eosinophil", 190, 210)] * 3, *[("eosinophil", 120, 110)] * 2)
    found = bccd.box_size_figures(train, test)
    assert list(found.values()) == pytest.approx([0.6, 0.8])


def test_figure_without_enough_objects_is_undefined() -> None:
    assert math.isnan(bccd.neighbor_figures({"RBC": (4, 1.0)})["1-NN macro, all identities"])
