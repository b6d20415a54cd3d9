"""Findings about files, splits, tasks and classes; every kind of finding has a test."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import DataError
from pipelines.base.findings import KINDS
from pipelines.data.dataset.checks.text import render_report

GOOD = {"b.png": [{}]}
CSV = {"format": "csv", "path": "labels.csv", "split_column": "split", "column": "kind"}


def kinds(report: Any) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report: Any, kind: str) -> Any:
    """Return the finding of a kind, which is the only one of its severity."""
    same = [finding for finding in report.findings if finding.severity == KINDS[kind].severity]
    assert [finding.kind for finding in same] == [kind], render_report(report)
    return same[0]


def test_clean_data_has_no_findings(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.findings == []
    assert list(index.records) == ["train", "val"]
    report.raise_errors()


def test_label_file_that_is_a_link_out_of_the_root_is_an_error(folder: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    (folder.root / "train.json").rename(tmp_path / "elsewhere.json")
    (folder.root / "train.json").symlink_to(tmp_path / "elsewhere.json")
    _, report = folder.check()
    assert ("unsafe_path", "train.json") in {(finding.kind, finding.file) for finding in report.errors}


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_label_file_of_train_or_val_is_an_error(folder: Any, split: str) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    (folder.root / f"{split}.json").unlink()
    _, report = folder.check()
    assert ("missing_label_file", f"{split}.json") in {(finding.kind, finding.file) for finding in report.errors}
    assert report.count("empty_split") == 1


def test_missing_test_split_is_not_a_finding(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert "test" not in index.records
    assert "test" not in report.fingerprints
    assert not report.findings


def test_layer_without_a_test_split_is_a_warning_if_another_layer_has_one(folder: Any) -> None:
    for split, name in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        folder.coco(split, {name: [{}]})
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\n")
    labels = [*folder.labels, CSV | {"tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    assert kinds(report) == {"missing_test_layer", "no_labels_to_score"}
    assert list(index.records["test"][0].labels) == ["things"]


def test_format_without_the_labels_of_the_task_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\n")
    labels = [folder.labels[0] | {"tasks": ["kind"]}, CSV | {"tasks": ["things"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    messages = [finding.message for finding in report.findings if finding.kind == "wrong_layer"]
    assert messages == [
        "the task 'kind' learns from classes, which the format 'coco' does not have; use one of csv, image_folder",
        "the task 'things' learns from boxes, which the format 'csv' does not have; use one of coco, "
        "voc, yolo, cvat, label_studio, datumaro",
    ]
    assert index.records["train"] == []
    assert report.count("unused_category") == 0


def test_several_classes_for_a_task_that_takes_one_are_an_error(folder: Any) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day|night\nb.png,val,day\nb.png,val,day\n")
    labels = [CSV | {"tasks": ["kind"], "separator": "|"}]
    _, report = folder.check(labels=labels, tasks={"kind": {"head": "multiclass"}})
    finding = next(finding for finding in report.errors if finding.kind == "ambiguous_class")
    assert finding.message == "has the classes ['day', 'night']; 'kind' takes exactly one per image"
    assert report.count("repeated_image") == 1
    assert next(layer for layer in report.layers if layer.split == "val").repeated == 1


def test_task_without_labels_is_an_error_in_train_and_a_warning_in_val(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    _, report = folder.check(tasks=tasks, labels=[folder.labels[0] | {"tasks": ["things", "lookup"]}])
    assert kinds(report) == {"no_labels", "no_labels_to_score"}
    assert "field 'who' (model.tasks.lookup.identity)" in report.errors[0].message
    assert report.tasks["lookup"].without_identity["train"] == 1


def sampled(folder: Any, identities: dict[str, list[str | None]], p: int) -> Any:
    """Return the report of train images with these identities, sampled with p identities per batch."""
    boxes: dict[str, list[dict[str, Any]]] = {
        image: [{"bbox": [j, 2, 3, 4]} | ({"who": who} if who else {}) for j, who in enumerate(of_image)]
        for image, of_image in identities.items()
    }
    boxes["a.png"].append({"bbox": [9, 2, 3, 4], "who": "eve", "iscrowd": 1})
    folder.coco("train", boxes)
    folder.coco("val", {"z.png": [{"who": "ann"}]})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    sampler = {"kind": "pk", "task": "lookup", "p": p, "k": 2}
    _, report = folder.check(tasks=tasks, labels=labels, sampler=sampler, batch_size=2 * p)
    return report


def test_fewer_identities_than_a_batch_needs_are_an_error(folder: Any) -> None:
    report = sampled(folder, {"a.png": ["ann", "ben"], "b.png": ["ann"], "c.png": []}, p=3)
    message = only(report, "too_few_identities").message
    assert "'s' has 2 identities of the task 'lookup' in train, but its sampler draws p = 3" in message
    assert "lower data.sources.s.sampler.p" in message
    with pytest.raises(DataError, match="2 identities"):
        report.raise_errors()


def test_fewer_than_two_identities_cannot_be_drawn_with_any_p(folder: Any) -> None:
    message = only(sampled(folder, {"a.png": ["ann"], "b.png": ["ann"]}, p=2), "too_few_identities").message
    assert "'s' has 1 identities" in message
    assert message.endswith(": set data.sources.s.sampler to kind: shuffle")


def test_images_without_identity_for_a_pk_sampler_are_a_warning(folder: Any) -> None:
    report = sampled(folder, {"a.png": ["ann", None], "b.png": ["ben"], "c.png": [], "d.png": [None]}, p=2)
    assert only(report, "image_not_drawn").message.startswith("2 of 4 train images of 's' have no identity")
    assert report.errors == []


def test_pk_sampler_that_draws_all_images_is_not_a_finding(folder: Any) -> None:
    assert sampled(folder, {"a.png": ["ann"], "b.png": ["ben", None]}, p=2).findings == []


def test_rename_of_a_missing_class_is_a_warning(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    _, report = folder.check(labels=[folder.labels[0] | {"classes": {"cta": "feline"}}])
    assert (
        only(report, "unused_rename").message
        == "`classes` renames 'cta', which no label of this layer has; its classes are ['cat']"
    )


def test_rows_of_an_unknown_split_are_a_warning(folder: Any) -> None:
    for name in "ab":
        folder.image(f"{name}.png")
    folder.text(
        "labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\nc.png,extra,day\nd.png,extra,day\n"
    )
    _, report = folder.check(labels=[CSV | {"tasks": ["kind"]}], tasks={"kind": {"head": "multiclass"}})
    assert (
        only(report, "unknown_split").message
        == "2 rows have the split 'extra'; the source has ['test', 'train', 'val']"
    )


def test_other_files_in_class_folders_are_a_warning(folder: Any) -> None:
    for name in ("train/day/a.png", "val/day/b.png"):
        folder.image(name)
    folder.text("images/train/day/notes.txt", "x")
    folder.text("images/train/day/.hidden", "x")
    labels = [{"format": "image_folder", "tasks": ["kind"]}]
    _, report = folder.check(labels=labels, tasks={"kind": {"head": "multiclass"}})
    assert only(report, "other_file").image == "train/day/notes.txt"


def test_root_that_is_not_a_folder_is_raised(folder: Any) -> None:
    job = folder.job()
    folder.root = folder.root / "nothing"
    from pipelines.data.dataset.index import build_index

    with pytest.raises(DataError, match="is not a folder"):
        build_index(job, folder.root)


def test_every_kind_of_finding_has_a_test() -> None:
    folders = (Path(__file__).parent, Path(__file__).parents[2] / "formats")
    tests = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
