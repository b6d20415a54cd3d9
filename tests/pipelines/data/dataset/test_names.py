"""Names that cannot be written, and paths that the system refuses, are findings before a run starts."""

import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.findings import KINDS
from pipelines.base.paths import below
from pipelines.base.printable import printable
from pipelines.base.terminal import escaped_output
from pipelines.data.dataset.checks.text import render_report
from pipelines.run_folder.files import write_atomic

CUT_EMOJI = "a\ud83d.png"
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
IMAGE_FOLDER = {"labels": [{"format": "image_folder", "tasks": ["kind"]}], "tasks": {"kind": {"head": "multiclass"}}}


def error_of(folder: Any, tmp_path: Path, **job: Any) -> Any:
    """Return the only kind of error of a data check, whose report can be printed and written everywhere."""
    _, report = folder.check(**job)
    report.write(tmp_path / "report.json")
    json.loads((tmp_path / "report.json").read_text("utf-8"))
    for problem in report.problems():
        str(problem).encode()
    assert printed_on_ascii(render_report(report))
    assert len({finding.kind for finding in report.errors if finding.kind not in ("empty_split", "no_labels")}) == 1
    return report.errors[0]


def printed_on_ascii(text: str) -> bytes:
    """Return what a command prints on a terminal that is not UTF-8."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with redirect_stdout(stream), escaped_output():
        print(text, end="", flush=True)
    return stream.detach().getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", [CUT_EMOJI, NOT_UTF8])
def test_listed_name_that_is_not_text_is_an_error_that_shows_it_escaped(folder: Any, tmp_path: Path, name: str) -> None:
    images = [{"id": 1, "file_name": "c.png"}, {"id": 2, "file_name": name}]
    boxes = [{"id": i, "image_id": i, "category_id": 5, "bbox": [0, 0, 9, 9]} for i in (1, 2)]
    folder.image("c.png")
    folder.coco("train", {}, images=images, annotations=boxes)
    folder.coco("val", {"b.png": [{}]})
    finding = error_of(folder, tmp_path)
    assert (finding.kind, finding.image) == ("undecodable_name", printable(name))
    assert "rename the file" in finding.message


def test_file_whose_name_is_not_utf8_is_an_error_where_it_is_used(folder: Any, tmp_path: Path) -> None:
    for name in ("train/day/a.png", "val/day/b.png", "val/day/c.png"):
        folder.image(name)
    (folder.root / "images/val/day/c.png").rename(folder.root / "images/val/day" / NOT_UTF8)
    finding = error_of(folder, tmp_path, **IMAGE_FOLDER)
    assert (finding.kind, finding.image) == ("undecodable_name", "val/day/caf\\xe9.png")


def test_class_folder_whose_name_is_not_utf8_is_an_error(folder: Any, tmp_path: Path) -> None:
    for name in ("train/day/a.png", "val/day/b.png"):
        folder.image(name)
    (folder.root / "images/train" / NOT_UTF8).mkdir()
    assert error_of(folder, tmp_path, **IMAGE_FOLDER).kind == "undecodable_name"


def test_image_whose_name_is_not_utf8_is_not_also_reported_as_unlisted(folder: Any) -> None:
    for name in ("train/day/a.png", "val/day/b.png", "val/day/c.png"):
        folder.image(name)
    (folder.root / "images/val/day/c.png").rename(folder.root / "images/val/day" / NOT_UTF8)
    _, report = folder.check(**IMAGE_FOLDER)
    assert [finding.kind for finding in report.findings] == ["undecodable_name"]


def test_unlisted_file_whose_name_is_not_utf8_is_a_warning(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    folder.image("x.png")
    (folder.root / "images/x.png").rename(folder.root / "images" / NOT_UTF8)
    _, report = folder.check()
    report.write(tmp_path / "report.json")
    assert [(finding.kind, finding.file) for finding in report.findings] == [("unlisted_image", "images/caf\\xe9.png")]


@pytest.mark.parametrize("place", ["category", "rename", "identity"])
def test_class_or_identity_that_is_not_text_is_an_error(folder: Any, tmp_path: Path, place: str) -> None:
    name = "a\ud83d"
    categories = [{"id": 5, "name": name if place == "category" else "cat"}]
    who = {"who": name if place == "identity" else "ann"}
    folder.coco("train", {"a.png": [who]}, categories=categories)
    folder.coco("val", {"b.png": [{"who": "ann"}]}, categories=categories)
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    labels = [
        folder.labels[0] | {"tasks": ["things", "lookup"]} | ({"classes": {"cat": name}} if place == "rename" else {})
    ]
    finding = error_of(folder, tmp_path, tasks=tasks, labels=labels)
    assert finding.kind == "undecodable_name"
    assert "'a\\ud83d'" in finding.message


@pytest.mark.parametrize(
    "name", ["a" * 252 + ".png", "é" * 130 + ".png", "d/" * 2500 + "a.png", "a\0.png", "loop/a.png", "a.png/b.png"]
)
def test_path_that_the_system_refuses_is_a_finding(folder: Any, tmp_path: Path, name: str) -> None:
    images = [{"id": 1, "file_name": "c.png"}, {"id": 2, "file_name": name}]
    folder.image("c.png")
    folder.image("a.png")
    (folder.root / "images/loop").symlink_to("loop")
    boxes = [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9]}]
    folder.coco("train", {}, images=images, annotations=boxes)
    folder.coco("val", {"b.png": [{}]})
    assert error_of(folder, tmp_path).kind in ("unsafe_path", "missing_image")


@pytest.mark.parametrize("relative", ["a" * 300, "x\ud83d", "a\0b"])
def test_refused_paths_are_value_errors(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ValueError, match=r"refuses|no file name can have|relative"):
        below(tmp_path, relative)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 日本 👩‍🔬.png", "naïve 日本 👩‍🔬.png"),
        ("a\nb\tc\x1b[2J", "a\\nb\\tc\\x1b[2J"),
        (NOT_UTF8, "caf\\xe9.png"),
        (CUT_EMOJI, "a\\ud83d.png"),
    ],
)
def test_only_what_cannot_be_shown_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_text_files_escape_lone_surrogates(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", json.dumps({"name": "a\ud83d"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": "a\ud83d"}


def test_stream_that_is_not_utf8_escapes_characters() -> None:
    assert printed_on_ascii("é \ud83d") == b"\\xe9 \\ud83d"


def test_findings_of_this_file_are_errors() -> None:
    assert {KINDS[kind].severity for kind in ("undecodable_name", "unsafe_path", "missing_image")} == {"error"}
