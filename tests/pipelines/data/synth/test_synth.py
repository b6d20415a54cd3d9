"""The demo data has the documented content, depends only on its seed, and passes the data check."""

import errno
import hashlib
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import ConfigError, DataError
from pipelines.data.dataset.commands import check_data, synthesize_data
from pipelines.data.dataset.index import build_index
from pipelines.data.synth.dataset import STYLES, write_synthetic
from pipelines.spec.job import JobSpec

JOB = JobSpec.model_validate(
    {
        "name": "demo",
        "model": {
            "backbone": {"name": "resnet18"},
            "tasks": {
                "things": {"head": "fcos"},
                "scene": {"head": "multilabel"},
                "lookup": {"head": "embedding", "of": "objects"},
            },
        },
        "data": {
            "root": "demo",
            "sources": {
                "demo": {
                    "images": "images",
                    "labels": [
                        {
                            "format": "coco",
                            "path": "annotations/instances_{split}.json",
                            "tasks": ["things", "lookup"],
                        },
                        {
                            "format": "csv",
                            "path": "annotations/image_labels.csv",
                            "split_column": "split",
                            "column": "scene",
                            "separator": " ",
                            "tasks": ["scene"],
                        },
                    ],
                }
            },
        },
    }
)


FIRST_SHAPES = [(5, 18, 3, 37, 38, 654), (6, 38, 75, 77, 77, 3524), (6, 61, 102, 26, 26, 400)]
"""Category, box and area of the first three objects with seed 0."""


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def boxes_of(root: Path) -> list[dict[str, Any]]:
    return list(json.loads((root / "annotations/instances_train.json").read_text())["annotations"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "data"
    write_synthetic(root, num_train=96, num_val=24, num_test=12)
    return root


@pytest.fixture(scope="module")
def grains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "grains"
    write_synthetic(root, style="grains", num_train=24, num_val=12, num_test=0)
    return root


def test_grains_are_clean_and_have_the_same_tasks(grains: Path) -> None:
    index, report = build_index(JOB, grains)
    assert [finding for finding in report.findings if finding.kind != "not_in_train"] == []
    assert {category.name for category in index.categories["things"]} == {"grain", "striped_grain", "bean", "stick"}
    assert len(index.categories["lookup"]) == 9
    assert {category.name for category in index.categories["scene"]} == {"crowded", "moss", "sand", "soil"}


def test_grains_are_smaller_and_more_numerous_than_shapes(demo: Path, grains: Path) -> None:
    sides, per_image = {}, {}
    for root in (demo, grains):
        boxes = boxes_of(root)
        sides[root] = statistics.median((box["bbox"][2] * box["bbox"][3]) ** 0.5 for box in boxes)
        per_image[root] = len(boxes) / len({box["image_id"] for box in boxes})
    assert sides[grains] < 0.6 * sides[demo]
    assert per_image[grains] > 4 * per_image[demo]


@pytest.mark.parametrize(("style", "range_of_ratios"), [("shapes", (0.9, 1)), ("grains", (0, 0.6))])
def test_grains_are_longer_than_wide(style: str, range_of_ratios: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    masks = [STYLES[style].draw_object(rng).alpha > 0.5 for _ in range(20)]
    axes = [np.linalg.eigvalsh(np.cov(np.nonzero(mask))) for mask in masks]
    assert range_of_ratios[0] <= statistics.median((short / long) ** 0.5 for short, long in axes) <= range_of_ratios[1]


def test_shadows_do_not_belong_to_objects() -> None:
    rng = np.random.default_rng(0)
    for patch in (STYLES["grains"].draw_object(rng) for _ in range(20)):
        shadow = (patch.alpha > 0.4) & (patch.alpha <= 0.5)
        assert (patch.colors[shadow] <= 40).any()
        rows, columns = np.nonzero(patch.alpha > 0.5)
        assert np.hypot(np.ptp(rows), np.ptp(columns)) <= 1.2 * patch.length + 2


def test_shapes_stay_the_same_from_version_to_version(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", num_train=6, num_val=2, num_test=0)
    boxes = [(box["category_id"], *box["bbox"], box["area"]) for box in boxes_of(tmp_path / "data")]
    assert boxes[:3] == FIRST_SHAPES


def test_unknown_style_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--style: got 'photos'; the styles are shapes, grains"):
        write_synthetic(tmp_path / "data", style="photos")
    assert not (tmp_path / "data").exists()


def test_demo_data_is_clean_and_has_all_three_tasks(demo: Path) -> None:
    index, report = build_index(JOB, demo)
    assert [finding for finding in report.findings if finding.kind != "not_in_train"] == []
    assert {category.name for category in index.categories["things"]} == set(STYLES["shapes"].categories)
    assert len(index.categories["lookup"]) == 16
    assert {category.name for category in index.categories["scene"]} == {"crowded", "desert", "meadow", "night"}
    assert {split: counts.listed for split, counts in report.images.items()} == {"train": 96, "val": 24, "test": 12}


def test_demo_data_has_scales_empty_images_occlusion_and_missing_labels(demo: Path) -> None:
    index, report = build_index(JOB, demo)
    assert report.tasks["things"].unlabeled == {"train": 12}
    assert report.tasks["scene"].unlabeled["train"] == 12
    assert report.tasks["things"].empty["train"] >= 5
    assert report.tasks["lookup"].without_identity["train"] > 0
    boxes = [box for record in index.records["train"] for box in record.labels.get("things", [])]
    scale = Counter(
        sum(max(box.bbox_xywh[2:]) > side for side in (30, 53)) for box in boxes if not isinstance(box, str)
    )
    assert min(scale[level] for level in range(3)) >= 20
    assert {record.height for record in index.records["train"]} == {128, 160}


def test_crowded_scenes_are_those_with_five_objects_or_more(demo: Path) -> None:
    index, _ = build_index(JOB, demo)
    for record in index.records["train"]:
        if {"things", "scene"} <= set(record.labels):
            assert ("crowded" in record.labels["scene"]) == (len(record.labels["things"]) >= 5)


@pytest.mark.parametrize("style", STYLES)
def test_demo_data_depends_only_on_the_seed(tmp_path: Path, style: str) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_synthetic(tmp_path / name, style=style, seed=seed, num_train=6, num_val=2, num_test=2)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a").keys() == digest(tmp_path / "c").keys()
    assert not set(digest(tmp_path / "a").values()) & set(digest(tmp_path / "c").values())


def test_demo_images_have_the_requested_size(tmp_path: Path) -> None:
    write_synthetic(tmp_path, num_train=3, num_val=1, num_test=0, image_size=192)
    sizes = [Image.open(path).size for path in sorted((tmp_path / "images/train").iterdir())]
    assert sizes == [(192, 160), (160, 192), (192, 192)]
    assert not (tmp_path / "annotations/instances_test.json").exists()


def test_folder_with_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty; choose a new folder"):
        write_synthetic(tmp_path)
    with pytest.raises(ConfigError, match="num_train 0"):
        write_synthetic(tmp_path / "y", num_train=0)


def test_commands_print_and_write_and_report_errors_by_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize_data(tmp_path / "d", num_train=8, num_val=8, num_test=0) == 0
    assert "8 train, 8 val and 0 test images" in capsys.readouterr().out
    assert check_data(JOB, tmp_path / "d", tmp_path / "report.json") == 0
    (tmp_path / "d/images/val/000001.jpg").unlink()
    assert check_data(JOB, tmp_path / "d", tmp_path / "report.json") == DataError.exit_code == 78
    assert "val/000001.jpg: is missing in the folder" in capsys.readouterr().out
    assert '"missing_image": 1' in (tmp_path / "report.json").read_text()


def test_full_disk_is_reported_with_the_folder_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill_disk)
    expected = rf"^folder: {tmp_path}/d cannot be written \(No space left on device\); free disk space, or choose"
    with pytest.raises(ConfigError, match=expected):
        synthesize_data(tmp_path / "d", num_train=8, num_val=8, num_test=0)
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written_is_printed_before_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_synthetic(tmp_path / "d", num_train=8, num_val=8, num_test=0)
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"--report: .*/file/report.json cannot be written \(.*\); choose another file"
    ):
        check_data(JOB, tmp_path / "d", tmp_path / "file" / "report.json")
    assert "0 errors" in capsys.readouterr().out
