"""`pyramidion init` writes a document for data of every format, with which the data has no errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.base.errors import ConfigError, DataError
from pipelines.data.dataset.index import build_index
from pipelines.data.drafting.commands import init_document
from pipelines.data.drafting.readings import find_readings
from pipelines.formats.catalog import FORMATS as LAYERS
from pipelines.formats.catalog import name_of
from pipelines.spec.load import load_job
from tests.pipelines.data.drafting import exports
from tests.pipelines.data.drafting.exports import CLASSES, FORMATS, SPLITS, WITHOUT_VAL, text


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    folder = tmp_path / "my data"
    folder.mkdir()
    return folder


def index_of(root: Path, config: str = "job.yaml") -> Any:
    job = load_job([config])
    index, report = build_index(job, root.parent / job.data.root)
    assert [str(finding) for finding in report.errors] == []
    return index


@pytest.mark.parametrize("name", FORMATS)
def test_document_reads_the_data_without_errors(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, format_ = FORMATS[name]
    write(root)
    exports.write_clutter(root)
    assert init_document(root, Path("job.yaml"), divide=True) == 0
    job = load_job(["job.yaml"])
    assert (job.name, job.data.root) == ("my_data", "my data")
    (source,) = job.data.sources.values()
    assert [layer.format for layer in source.labels] == [format_]
    index = index_of(root)
    assert sum(map(len, index.records.values())) == sum(map(len, SPLITS.values()))
    if name not in WITHOUT_VAL:
        assert {split: len(records) for split, records in index.records.items()} == {
            split: len(numbers) for split, numbers in SPLITS.items()
        }
    (task,) = job.model.tasks
    assert [category.name for category in index.categories[task]] == list(CLASSES)
    printed = capsys.readouterr().out
    assert f"Format {format_}: " in printed
    assert ("splits.csv" in printed) == (name in WITHOUT_VAL)


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if "class" not in name and "folder" not in name and name != "csv"]
)
def test_boxes_are_those_that_were_written(name: str, root: Path) -> None:
    FORMATS[name][0](root)
    init_document(root, Path("job.yaml"), divide=True)
    for records in index_of(root).records.values():
        for record in records:
            number = int(Path(record.file_name).stem)
            found = [(box.category, box.bbox_xywh) for box in record.labels["objects"]]
            assert [category for category, _ in found] == [category for category, _ in exports.boxes_of(number)]
            for (_, box), (_, expected) in zip(found, exports.boxes_of(number), strict=True):
                assert box == pytest.approx(expected, abs=0.01)


def test_every_format_is_recognized_by_files_that_messages_name() -> None:
    tested = {format_ for _, format_ in FORMATS.values()}
    assert {name_of(layer) for layer in LAYERS if layer.RECOGNIZED_BY} == tested


def test_data_without_val_names_the_command_that_divides_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.write_coco_without_splits(root)
    init_document(root, Path("job.yaml"))
    assert "  pyramidion data split --config job.yaml --write\n" in capsys.readouterr().out
    assert not (root / "splits.csv").exists()


def test_folder_outside_of_the_data_roots_is_named_by_an_option(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_csv(root)
    (root.parent / "elsewhere").mkdir()
    monkeypatch.chdir(root.parent / "elsewhere")
    init_document(root, Path("job.yaml"))
    assert f"pyramidion fit --config job.yaml --data-root {root.parent}\n" in capsys.readouterr().out


def test_other_readings_are_listed_and_chosen_by_number(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.write_voc(root)
    names = [f"{number:03d}.png,a|b" for numbers in SPLITS.values() for number in numbers]
    text(root / "tags.csv", "file,tags\n" + "\n".join(names) + "\n")
    init_document(root, Path("job.yaml"))
    assert (
        "  2: format csv: tags.csv: 22 rows; images in the column 'file', classes in 'tags'" in capsys.readouterr().out
    )
    init_document(root, Path("other.yaml"), number=2, divide=True)
    job = load_job(["other.yaml"])
    assert job.model.tasks["classes"].head == "multilabel"
    with pytest.raises(DataError, match=r"got 3; choose one of 1: .*; 2: tags"):
        init_document(root, Path("third.yaml"), number=3)


def test_settings_follow_the_images(root: Path) -> None:
    exports.write_coco(root)
    init_document(root, Path("job.yaml"))
    job = load_job(["job.yaml"])
    assert (job.data.image_size, job.data.sources["images"].batch_size) == (64, 2)
    assert job.model.backbone.weights == "none"
    large = root.parent / "large"
    text(large / "labels.json", exports.coco_file(range(3)).replace("48", "1500").replace("64", "2000"))
    for number in range(3):
        Image.new("RGB", (2000, 1500), (number, 0, 0)).save(large / f"{number:03d}.png")
    init_document(large, Path("large.yaml"))
    assert load_job(["large.yaml"]).data.image_size == 640


def test_existing_document_is_not_overwritten(root: Path) -> None:
    exports.write_csv(root)
    Path("job.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="--to"):
        init_document(root, Path("job.yaml"))
    assert Path("job.yaml").read_text() == "mine"
    init_document(root, Path("job.yaml"), force=True)
    assert load_job(["job.yaml"])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda root: None, "has no images (it has no files)"),
        (lambda root: text(root / "a.txt", "x"), "has no images (it has 1 .txt)"),
        (lambda root: exports.write_image(root / "a.png", 0), "1 images, but no labels of a known format"),
        (lambda root: text(root / "a.json", exports.coco_file(range(3))), "such as '000.png') are not in"),
        (lambda root: text(root / "x/a.xml", exports.voc_file(1)), "x has Pascal VOC files, but their images are not"),
        (lambda root: text(root / "d.yaml", "train: images\nnames: [a]\n"), "d.yaml is YOLO, but its training images"),
    ],
)
def test_folder_that_cannot_be_read_is_an_error_with_what_was_found(write: Any, words: str, root: Path) -> None:
    write(root)
    with pytest.raises(DataError) as caught:
        find_readings(root)
    assert words in str(caught.value)
    assert "coco: JSON files with images, annotations and categories" in str(caught.value)


def test_anything_but_a_folder_is_an_error_that_says_what_to_name(root: Path) -> None:
    for name, words in {"a.zip": "is an archive; unpack it", "a.json": "is not a folder; name"}.items():
        text(root / name, "")
        with pytest.raises(DataError, match=words):
            find_readings(root / name)
    with pytest.raises(DataError, match="does not exist; name the folder"):
        find_readings(root / "none")


def test_class_that_names_the_project_of_a_roboflow_export_is_omitted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow_coco(root)
    for file in root.rglob("*.json"):
        document = json.loads(file.read_text())
        for category in document["categories"]:
            category["supercategory"] = "pets"
        document["categories"].append({"id": 99, "name": "pets", "supercategory": "none"})
        file.write_text(json.dumps(document))
    init_document(root, Path("job.yaml"))
    assert [category.name for category in index_of(root).categories["objects"]] == list(CLASSES)
    assert "omitted because it only names a group of classes: pets" in capsys.readouterr().out


def test_supercategory_with_boxes_is_a_class(root: Path) -> None:
    exports.write_roboflow_coco(root)
    for file in root.rglob("*.json"):
        document = json.loads(file.read_text())
        document["categories"][0]["supercategory"] = document["categories"][1]["name"]
        file.write_text(json.dumps(document))
    (reading,) = find_readings(root)
    assert "classes" not in reading.fields


def test_linked_folders_are_not_followed_and_are_named(root: Path, tmp_path: Path) -> None:
    exports.write_image(tmp_path / "outside/a.png", 0)
    (root / "images").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="links to folders are not followed: images; add --follow-links"):
        find_readings(root)


def test_blank_in_class_names_does_not_separate_classes(root: Path) -> None:
    for number in range(6):
        exports.write_image(root / f"{number}.png", number)
    rows = [f"{number}.png,{name}" for number, name in enumerate(["red fox", "cat"] * 3)]
    text(root / "labels.csv", "file_name,animal\n" + "\n".join(rows) + "\n")
    (reading,) = find_readings(root)
    assert reading.fields == {"path": "labels.csv", "file_column": "file_name", "column": "animal"}
