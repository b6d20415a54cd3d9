"""Tables that describe images: which value each image has, and what is wrong with a table."""

from pathlib import Path

import pytest

from pipelines.base.errors import DataError
from pipelines.base.records import ImageRecord
from pipelines.data.dataset.slices import MAX_VALUES, NO_VALUE, read_slices
from pipelines.spec.data import SourceSpec
from pipelines.spec.evaluation import Unlisted

LAYER = {"format": "coco", "path": "x.json", "tasks": ["cells"]}
SOURCES = {"plates": SourceSpec.model_validate({"images": "pictures/{split}", "labels": [LAYER]})}
RECORDS = [ImageRecord(number, "plates", "test", f"{name}.jpg", Path(name)) for number, name in enumerate("abc", 1)]


def read(folder: Path, text: str, *columns: str, unlisted: Unlisted = "stop") -> dict[str, dict[int, str]]:
    (folder / "images.csv").write_text(text)
    return read_slices(folder / "images.csv", columns, unlisted, RECORDS, SOURCES)


def test_images_are_named_below_the_data_root_or_below_their_folder(tmp_path: Path) -> None:
    text = "file_name,camera,site\npictures/test/a.jpg,1,x\n./b.jpg, 2 ,x\npictures/test//c.jpg,1,y\n"
    found = read(tmp_path, text, "camera", "site")
    assert found == {"camera": {1: "1", 2: "2", 3: "1"}, "site": {1: "x", 2: "x", 3: "y"}}


def test_path_below_the_data_root_wins_over_the_bare_name(tmp_path: Path) -> None:
    text = "file_name,camera\na.jpg,1\nb.jpg,1\nc.jpg,1\npictures/test/a.jpg,2\npictures/val/b.jpg,3\n"
    assert read(tmp_path, text, "camera") == {"camera": {1: "2", 2: "1", 3: "1"}}


def test_images_without_a_value_stop_the_run_or_are_a_slice_by_choice(tmp_path: Path) -> None:
    text = "file_name;camera;site\na.jpg;1;x\nb.jpg;;x\n"
    with pytest.raises(DataError, match=r"2 images have no row or an empty cell, such as 'pictures/test/b\.jpg'"):
        read(tmp_path, text, "camera")
    with pytest.raises(DataError, match="1 image has no row"):
        read(tmp_path, text, "site")
    found = read(tmp_path, text, "camera", "site", unlisted="slice")
    assert found == {"camera": {1: "1", 2: NO_VALUE, 3: NO_VALUE}, "site": {1: "x", 2: "x", 3: NO_VALUE}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,site\na.jpg,1\n", "has no column 'camera'; its header is"),
        ("file_name,camera\na.jpg\n", "line 2 has 1 cell, the header has 2"),
        ("file_name,camera\na.jpg,1\na.jpg,2\n", "line 3 describes 'a.jpg' again with other values"),
    ],
)
def test_invalid_table_is_named_with_its_problem(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"images.csv: {message}"):
        read(tmp_path, text, "camera")


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file or directory\); name a CSV file"):
        read_slices(tmp_path / "none.csv", ["camera"], "stop", RECORDS, SOURCES)


def test_column_that_does_not_group_images_is_refused(tmp_path: Path) -> None:
    records = [ImageRecord(n, "plates", "test", f"{n}.jpg", Path(f"{n}")) for n in range(MAX_VALUES + 1)]
    (tmp_path / "images.csv").write_text("file_name,time\n" + "".join(f"{n}.jpg,{n}\n" for n in range(len(records))))
    with pytest.raises(DataError, match=f"column 'time' has 101 values; name a column with at most {MAX_VALUES}"):
        read_slices(tmp_path / "images.csv", ["time"], "stop", records, SOURCES)
