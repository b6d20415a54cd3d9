"""The demo data has the documented content, depends only on its seed, and passes the data check."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pipelines.base.errors import ConfigError, DataError
from pipelines.data.dataset.commands import check_data, synthesize_data
from pipelines.data.dataset.index import build_index
from pipelines.data.synth.dataset import CATEGORIES, write_synthetic
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


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "data"
    write_synthetic(root, num_train=96, num_val=24, num_test=12)
    return root


def test_demo_data_is_clean_and_has_all_three_tasks(demo: Path) -> None:
    index, report = build_index(JOB, demo)
    assert [finding for finding in report.findings if finding.kind != "not_in_train"] == []
    assert {category.name for category in index.categories["things"]} == set(CATEGORIES)
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


def test_demo_data_depends_only_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_synthetic(tmp_path / name, seed=seed, num_train=6, num_val=2, num_test=2)
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
