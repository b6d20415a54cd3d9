"""The data report: counts that add up for any files, fingerprints, and its written and printed forms."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.data.dataset.checks.text import render_report

LOOKUP = {"head": "embedding", "of": "objects"}


def test_fingerprint_depends_on_whether_exif_is_applied(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    ignored, applied = (folder.check(exif=exif)[1].fingerprints for exif in ("ignore", "apply"))
    assert ignored["val"] != applied["val"]


@pytest.mark.parametrize("change", ["bbox", "category", "pixels", "nothing", "ids"])
def test_fingerprint_changes_with_labels_and_pixels_only(folder: Any, change: str) -> None:
    folder.coco("train", {"a.png": [{}]})
    document = folder.coco("val", {"b.png": [{}]}, categories=[{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}])
    before = folder.check()[1].fingerprints
    if change == "bbox":
        document["annotations"][0]["bbox"] = [1, 2, 3, 5]
    if change == "category":
        document["annotations"][0]["category_id"] = 6
    if change == "pixels":
        folder.image("b.png")
    if change == "ids":
        document["annotations"][0]["id"] = document["images"][0]["id"] = document["annotations"][0]["image_id"] = 77
    folder.text("val.json", json.dumps(document))
    after = folder.check()[1].fingerprints
    assert after["train"] == before["train"]
    assert (after["val"] == before["val"]) == (change in ("nothing", "ids"))


def test_report_is_written_completely_but_printed_with_a_few_examples(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{"bbox": [1, 1, 0, 0]}] * 8 + [{}], "[b]old.png": [{"category_id": 9}] * 7})
    folder.coco("val", {"b.png": [{}]})
    _, report = folder.check()
    report.write(tmp_path / "out" / "data_report.json")
    written = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert (written["num_errors"], written["num_warnings"]) == (7, 8)
    assert len(written["warnings"]) == 8
    assert written["findings"] == {"unknown_category": 7, "degenerate_box": 8}
    assert written["splits"]["train"] == {
        "listed": 2,
        "in_index": 2,
        "unlabeled": 0,
        "unlabelled": 0,
        "unusable": 0,
        "skipped": 0,
    }
    assert all(layer["adds_up"] for layer in written["layers"])
    text = render_report(report)
    assert "(8 times, also at annotation 1001, annotation 1002, annotation 1003, ...)" in text
    assert "[b]old.png" in text
    assert text.index("error: ") < text.index("warning: ")
    assert [problem.message.count("(7 times") for problem in report.problems()] == [1]


BOX = st.fixed_dictionaries(
    {"category_id": st.sampled_from([5, 6, 7, 99])},
    optional={
        "bbox": st.lists(st.sampled_from([-9, 0, 5, 30, 100, None]), min_size=3, max_size=4),
        "iscrowd": st.sampled_from([0, 1, 2]),
        "image_id": st.sampled_from([100, 101, 555]),
        "identity": st.sampled_from(["a", "b", None, 4]),
    },
)
LISTS = st.lists(BOX, max_size=6)
CLASSES = st.dictionaries(st.sampled_from(["cat", "dog", "emu"]), st.sampled_from(["cat", "pet", None]), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=LISTS, second=LISTS, val=LISTS, classes=CLASSES)
def test_annotations_are_kept_or_skipped_for_a_reported_reason(
    folder: Any, first: list[Any], second: list[Any], val: list[Any], classes: dict[str, str | None]
) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}, {"id": 7, "name": "emu"}]
    folder.coco("train", {"a.png": first, "c.png": second}, categories=categories)
    folder.coco("val", {"b.png": val}, categories=categories)
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"], "classes": classes}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"lookup": LOOKUP})
    for layer, given_boxes in zip(report.layers, (first + second, val), strict=True):
        assert layer.read == len(given_boxes)
        found = {
            kind: sum(f.kind == kind and f.split == layer.split for f in report.findings)
            for kind in (
                "degenerate_box",
                "out_of_image_box",
                "duplicate_box",
                "unknown_category",
                "unknown_image",
                "broken_entry",
            )
        }
        assert list(found.values()) == [
            layer.degenerate,
            layer.outside + layer.clipped,
            layer.duplicate,
            layer.unknown_category,
            layer.unknown_image,
            layer.broken_entry,
        ]
        boxes = [box for record in index.records[layer.split] for box in record.labels["things"]]
        assert len(boxes) == layer.kept
        assert all(b.bbox_xywh[0] >= 0 and b.bbox_xywh[0] + b.bbox_xywh[2] <= 60 and b.bbox_xywh[3] > 0 for b in boxes)
        assert len({box.annotation_id for box in boxes}) == len(boxes)
        for task in ("things", "lookup"):
            counts = report.tasks[task]
            counted = sum(counter[layer.split] for counter in counts.by_class.values())
            assert counted + counts.crowd[layer.split] + counts.without_identity[layer.split] == layer.kept
    for counts in report.images.values():
        assert counts.listed == counts.in_index + counts.unlabeled + counts.unusable + counts.skipped
