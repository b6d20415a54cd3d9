"""The images of a job are divided, and `data split` writes the result for the document."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.base.errors import ConfigError, DataError
from pipelines.data.dataset.index import build_index
from pipelines.data.splitting.commands import split_data
from pipelines.data.splitting.division import SplitSettings, divide
from pipelines.data.splitting.groups import by_column, by_folder, by_pattern
from pipelines.spec.load import load_job
from tests.pipelines.data_folder import DataFolder

DOCUMENT = """\
name: t
model: {backbone: {name: resnet18}, tasks: {things: {head: fcos}}}
data:
  root: data
  sources:
    # the only source
    s:
      images: images  # all of them
      labels: [{format: coco, path: train.json, tasks: [things]}]
"""


@pytest.fixture
def pool(tmp_path: Path) -> DataFolder:
    """Forty images in one COCO file: ten scenes of four images, with cats or nothing."""
    folder = DataFolder(tmp_path / "data")
    folder.coco("train", {f"{scene}_{number}.png": [{}] * (number % 2) for scene in range(10) for number in range(4)})
    (tmp_path / "job.yaml").write_text(DOCUMENT)
    return folder


def split(folder: DataFolder, settings: SplitSettings | None = None, **options: Any) -> Any:
    config = str(folder.root.parent / "job.yaml")
    return split_data(load_job([config]), folder.root, settings or SplitSettings(), configs=[config], **options)


def rows(folder: DataFolder) -> dict[str, str]:
    lines = (folder.root / "splits.csv").read_text().splitlines()
    assert lines[0] == "file_name,split"
    return dict(line.split(",") for line in lines[1:])


def test_split_and_document_are_usable_without_further_changes(pool: DataFolder, capsys: Any) -> None:
    assert split(pool, edit=True) == 0
    job = load_job([str(pool.root.parent / "job.yaml")])
    index, report = build_index(job, pool.root)
    assert report.errors == []
    assert {name: len(records) for name, records in index.records.items()} == {"train": 28, "val": 6, "test": 6}
    assert "all images" in (printed := capsys.readouterr().out)
    assert "cat" in printed


def test_document_keeps_its_comments(pool: DataFolder) -> None:
    split(pool, edit=True)
    text = (pool.root.parent / "job.yaml").read_text()
    assert text.replace("      split_file: splits.csv\n", "") == DOCUMENT


def test_lines_for_the_document_are_printed_by_default(pool: DataFolder, capsys: Any) -> None:
    split(pool)
    assert (pool.root.parent / "job.yaml").read_text() == DOCUMENT
    assert "    split_file: splits.csv\n" in capsys.readouterr().out


def test_same_seed_gives_the_same_split(pool: DataFolder) -> None:
    found = []
    for seed in (0, 0, 1):
        split(pool, SplitSettings(seed=seed), force=True)
        found.append(rows(pool))
    assert found[0] == found[1] != found[2]


def test_existing_file_is_not_overwritten(pool: DataFolder) -> None:
    split(pool)
    before = rows(pool)
    with pytest.raises(ConfigError, match="--keep adds new images"):
        split(pool, SplitSettings(seed=5))
    assert rows(pool) == before


def test_new_images_are_added_and_others_keep_their_split(pool: DataFolder) -> None:
    split(pool)
    before = rows(pool)
    names = {Path(path).name: [{}] for path in before}
    pool.coco("train", names | {f"new_{number}.png": [{}] for number in range(20)})
    split(pool, SplitSettings(keep=True))
    after = rows(pool)
    assert {path: after[path] for path in before} == before
    assert len(after) == 60
    assert list(after.values()).count("val") == 9


def test_copies_stay_together_with_the_image_that_has_a_split(pool: DataFolder) -> None:
    split(pool)
    before = rows(pool)
    names: dict[str, Any] = {Path(path).name: [{}] for path in before}
    for path in before:
        shutil.copy(pool.root / path, pool.root / path.replace(".png", "_copy.png"))
        names[Path(path).stem + "_copy.png"] = [{}]
    pool.coco("train", names)
    split(pool, SplitSettings(keep=True))
    after = rows(pool)
    assert all(after[path] == after[path.replace(".png", "_copy.png")] == before[path] for path in before)


def test_groups_of_a_pattern_a_folder_or_a_column_stay_together(pool: DataFolder) -> None:
    pool.text(
        "scenes.csv", "file_name,scene\n" + "".join(f"{s}_{n}.png,scene {s}\n" for s in range(10) for n in range(4))
    )
    for key in (by_pattern("^[^_]+"), by_pattern("^(.*)_"), by_column(pool.root, "scenes.csv", "scene")):
        division = divide(
            load_job([str(pool.root.parent / "job.yaml")]), pool.root, ["s"], "splits.csv", SplitSettings(group_by=key)
        )
        of_scene: dict[str, set[str]] = {}
        for path, name in division.by_path().items():
            of_scene.setdefault(Path(path).name[0], set()).add(name)
        assert all(len(names) == 1 for names in of_scene.values())
        assert (division.num_groups, division.largest, division.num_keys) == (10, 4, 10)
        assert set(division.splits) == {"train", "val", "test"}


def test_images_that_are_all_one_group_cannot_be_divided(pool: DataFolder) -> None:
    with pytest.raises(ConfigError, match="40 images form 1 groups that stay together"):
        split(pool, SplitSettings(group_by=by_folder))


def test_split_on_disk_is_kept(pool: DataFolder) -> None:
    pool.coco("test", {f"t{number}.png": [{}] for number in range(10)})
    path = pool.root.parent / "job.yaml"
    path.write_text(DOCUMENT.replace("train.json", '"{split}.json"'))
    split(pool, edit=True)
    found = rows(pool)
    assert {name for name, value in found.items() if value == "test"} == {
        f"images/t{number}.png" for number in range(10)
    }
    source = yaml.safe_load(path.read_text())["data"]["sources"]["s"]
    assert source["splits"] == {"train": "train", "test": "test"}
    index, report = build_index(load_job([str(path)]), pool.root)
    assert report.errors == []
    assert {name: len(records) for name, records in index.records.items()} == {"train": 32, "val": 8, "test": 10}


def test_complete_splits_on_disk_are_divided_anew_only_on_request(pool: DataFolder) -> None:
    for name in ("val", "test"):
        pool.coco(name, {f"{name}{number}.png": [{}] for number in range(5)})
    (pool.root.parent / "job.yaml").write_text(DOCUMENT.replace("train.json", '"{split}.json"'))
    with pytest.raises(DataError, match="--all"):
        split(pool)
    split(pool, SplitSettings(ignore_disk=True))
    assert list(rows(pool).values()).count("val") in (7, 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": ["x"]}, "the sources are s"),
        ({"settings": SplitSettings(shares={"val": 0.9, "test": 0.2})}, "leave a part for train"),
        ({"settings": SplitSettings(shares={"val": -0.1})}, "leave a part for train"),
        ({"settings": SplitSettings(keep=True)}, "missing"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_the_remedy(pool: DataFolder, options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split(pool, **options)
    assert not (pool.root / "splits.csv").exists()


def test_invalid_groups_are_errors(pool: DataFolder) -> None:
    with pytest.raises(ConfigError, match="regular expression"):
        by_pattern("(")
    with pytest.raises(ConfigError, match="cannot read"):
        by_column(pool.root, "none.csv", "x")
    pool.text("scenes.csv", "file_name,scene\n")
    with pytest.raises(ConfigError, match="no column 'x'"):
        by_column(pool.root, "scenes.csv", "x")
