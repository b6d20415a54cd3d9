"""Real data is read: the blood cells of BCCD, as COCO and as Pascal VOC."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category, DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.convert import convert
from pipelines.data.dataset.index import build_index
from pipelines.data.dataset.roots import data_roots_from_environment, find_root
from pipelines.formats.catalog import WRITERS
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job

COCO = {"format": "coco", "path": "annotations/instances_{split}.json", "tasks": ["cells", "lookup"]}
CSV = {
    "format": "csv",
    "path": "annotations/image_labels.csv",
    "split_column": "split",
    "column": "wbc_types",
    "separator": " ",
    "tasks": ["subtype"],
}
LOOKUP = {"head": "embedding", "of": "objects"}


@pytest.fixture(scope="module")
def root() -> Path:
    try:
        return find_root("bccd", data_roots_from_environment(os.environ))
    except ConfigError as error:
        pytest.skip(f"BCCD is missing: {error}")


def check(root: Path, labels: list[Any], tasks: dict[str, Any]) -> tuple[DatasetIndex, DataReport]:
    return build_index(job_of(labels, tasks), root)


def job_of(labels: list[Any], tasks: dict[str, Any]) -> JobSpec:
    sources = {"bccd": {"images": "JPEGImages", "labels": labels}}
    model = {"backbone": {"name": "resnet18"}, "tasks": {"cells": {"head": "fcos"}} | tasks}
    return JobSpec.model_validate({"name": "b", "model": model, "data": {"root": "bccd", "sources": sources}})


@pytest.fixture(scope="module")
def coco(root: Path) -> tuple[DatasetIndex, DataReport]:
    return check(root, [COCO, CSV], {"lookup": LOOKUP, "subtype": {"head": "multilabel"}})


def test_voc_and_coco_files_have_the_same_boxes(root: Path, coco: tuple[DatasetIndex, DataReport]) -> None:
    voc, report = check(root, [{"format": "voc", "tasks": ["cells"]}], {})
    for split, records in coco[0].records.items():
        assert [record.image_id for record in voc.records[split]] == [record.image_id for record in records]
        for one, other in zip(voc.records[split], records, strict=True):
            assert (one.file_name, one.height, one.width) == (other.file_name, other.height, other.width)
            plain = [
                [(box.annotation_id, box.category, box.bbox_xywh) for box in record.labels["cells"]]
                for record in (one, other)
            ]
            assert plain[0] == plain[1]
    assert not report.errors


def test_only_the_two_boxes_without_an_area_are_reported(coco: tuple[DatasetIndex, DataReport]) -> None:
    _, report = coco
    assert [(f.kind, f.split, f.image, f.annotation_id) for f in report.findings] == [
        ("degenerate_box", "train", "BloodImage_00343.jpg", 2288),
        ("degenerate_box", "val", "BloodImage_00338.jpg", 3692),
    ]


def test_counts_match_the_data_card(coco: tuple[DatasetIndex, DataReport]) -> None:
    index, report = coco
    assert {split: len(records) for split, records in index.records.items()} == {"train": 205, "val": 87, "test": 72}
    assert index.categories["cells"] == [Category(1, "RBC"), Category(2, "WBC"), Category(3, "Platelets")]
    assert report.tasks["cells"].by_class["RBC"] == {"train": 2381, "val": 967, "test": 805}
    assert report.tasks["lookup"].by_class["lymphocyte"] == {"train": 20, "val": 9, "test": 4}
    assert report.tasks["subtype"].unlabeled == {"train": 1}
    assert [(layer.read, layer.kept, layer.degenerate) for layer in report.layers[::2]] == [
        (2805, 2804, 1),
        (1138, 1137, 1),
        (945, 945, 0),
    ]
    assert all(layer.adds_up for layer in report.layers)


@pytest.mark.slow
@pytest.mark.parametrize("to", WRITERS)
def test_real_boxes_survive_a_conversion(root: Path, coco: Any, tmp_path: Path, to: str) -> None:
    convert(job_of([COCO], {"lookup": LOOKUP}), root, tmp_path / "out", to, link=False)
    index, report = build_index(load_job([str(tmp_path / "out/job.yaml")]), tmp_path / "out")
    assert not report.errors
    for split, records in coco[0].records.items():
        for one, other in zip(index.records[split], records, strict=True):
            assert one.file_name == other.file_name
            for found, given in zip(one.labels["cells"], other.labels["cells"], strict=True):
                assert found.category == given.category
                assert found.bbox_xywh == pytest.approx(given.bbox_xywh, abs=1e-4)
