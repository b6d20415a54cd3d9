"""Data sets are written in other formats."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.base.errors import ConfigError, DataError
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.convert import Conversion, convert
from pipelines.data.dataset.index import build_index
from pipelines.formats.catalog import WRITERS
from pipelines.spec.load import load_job, validate_document
from service.cli import main
from tests.pipelines.data_folder import DataFolder

SIZE_HW = (40, 60)
Boxes = dict[str, list[tuple[str, tuple[float, float, float, float]]]]


def converted(folder: Any, to: str, out: Path, **job: Any) -> tuple[Conversion, DatasetIndex]:
    """Convert the data of a folder, and return what its new document reads."""
    conversion = convert(folder.job(**job), folder.root, out, to)
    index, report = build_index(load_job([str(out / "job.yaml")]), out)
    assert not report.errors
    return conversion, index


def boxes_by_image(index: DatasetIndex, task: str = "things") -> dict[str, Boxes]:
    return {
        split: {
            record.file_name: [(box.category, box.bbox_xywh) for box in record.labels[task]]  # type: ignore[union-attr]
            for record in records
        }
        for split, records in index.records.items()
    }


def assert_equal_to_half_a_pixel(one: dict[str, Boxes], other: dict[str, Boxes]) -> None:
    assert one.keys() == other.keys()
    for split, images in one.items():
        assert images.keys() == other[split].keys()
        for name, boxes in images.items():
            assert [category for category, _ in boxes] == [category for category, _ in other[split][name]]
            for (_, (x, y, width, height)), (_, (x2, y2, width2, height2)) in zip(
                boxes, other[split][name], strict=True
            ):
                edges = [x - x2, y - y2, x + width - x2 - width2, y + height - y2 - height2]
                assert max(map(abs, edges)) <= 0.5 + 1e-6


@st.composite
def boxes(draw: st.DrawFn) -> dict[str, Any]:
    """A box of more than one pixel inside an image of `SIZE_HW`, in sixteenths of a pixel."""
    sides = []
    for length in (SIZE_HW[1], SIZE_HW[0]):
        start = draw(st.integers(0, 16 * (length - 2)))
        end = draw(st.integers(start + 17, 16 * length))
        sides.append((start / 16, (end - start) / 16))
    (x, width), (y, height) = sides
    return {"bbox": [x, y, width, height], "category_id": draw(st.sampled_from([3, 7, 9]))}


NAMES = st.text("abzAZ09 _-.äé", min_size=1, max_size=8).map(str.strip).filter(lambda name: name.strip("."))
CLASSES = st.lists(NAMES, min_size=3, max_size=3, unique=True)
IMAGES = st.lists(st.lists(boxes(), min_size=1, max_size=3), min_size=2, max_size=4)


@pytest.mark.parametrize("second", WRITERS)
@pytest.mark.parametrize("first", WRITERS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=IMAGES, classes=CLASSES)
def test_boxes_and_classes_survive_all_pairs_of_formats(first: str, second: str, images: Any, classes: Any) -> None:
    with TemporaryDirectory() as place:
        folder = DataFolder(Path(place) / "given")
        categories = [{"id": number, "name": name} for number, name in zip((3, 7, 9), classes, strict=True)]
        split_at = len(images) // 2
        for split, part in (("train", images[:split_at]), ("val", images[split_at:])):
            folder.coco(split, {f"{split}{i}.png": own for i, own in enumerate(part)}, categories=categories)
        original, _ = folder.check()
        convert(folder.job(), folder.root, Path(place) / "one", first)
        convert(load_job([f"{place}/one/job.yaml"]), Path(place) / "one", Path(place) / "two", second)
        index, report = build_index(load_job([f"{place}/two/job.yaml"]), Path(place) / "two")
        assert not report.errors
        assert_equal_to_half_a_pixel(boxes_by_image(original), boxes_by_image(index))
        if "voc" not in (first, second):
            assert [c.name for c in index.categories["things"]] == [c.name for c in original.categories["things"]]


def write_special_objects(folder: Any) -> dict[str, Any]:
    """Write a crowd region, an area, an identity and a box of one pixel; return the job that uses them."""
    objects = [{}, {"iscrowd": 1}, {"area": 6.5, "who": "tom", "bbox": [5, 5, 9, 9]}, {"bbox": [1, 1, 1, 5]}]
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    folder.coco("train", {"a.png": objects}, categories=categories)
    folder.coco("val", {"b.png": [{}]}, categories=categories)
    folder.text("l.csv", "file_name,kind,split\na.png,day,train\nb.png,day,val\n")
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    csv = {"format": "csv", "path": "l.csv", "column": "kind", "split_column": "split", "tasks": ["kind"]}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}, csv]
    return {"tasks": tasks | {"kind": {"head": "multiclass"}}, "labels": labels}


@pytest.mark.parametrize(
    ("to", "tasks", "lost"),
    [
        ("coco", {"things", "lookup"}, {}),
        (
            "voc",
            {"things", "lookup"},
            {
                "crowd regions": 1,
                "boxes of at most one pixel": 1,
                "areas of objects": 1,
                "classes without objects (dog)": 1,
            },
        ),
        ("yolo", {"things"}, {"crowd regions": 1, "areas of objects": 1, "labels of the task 'lookup'": 5}),
    ],
)
def test_labels_that_the_format_cannot_express_are_counted(
    folder: Any, tmp_path: Path, to: str, tasks: set[str], lost: dict[str, int]
) -> None:
    job = folder.job(**write_special_objects(folder))
    conversion = convert(job, folder.root, tmp_path / "out", to)
    assert dict(conversion.lost) == lost | {"labels of the task 'kind'": 2}
    assert set(conversion.document["model"]["tasks"]) == tasks
    assert load_job([str(tmp_path / "out/job.yaml")])


def test_coco_keeps_crowds_areas_and_identities(folder: Any, tmp_path: Path) -> None:
    convert(folder.job(**write_special_objects(folder)), folder.root, tmp_path / "out", "coco")
    document = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [one["iscrowd"] for one in document["annotations"]] == [0, 1, 0, 0]
    assert (document["annotations"][2]["area"], document["annotations"][2]["who"]) == (6.5, "tom")
    index, _ = build_index(load_job([str(tmp_path / "out/job.yaml")]), tmp_path / "out")
    assert [box.identity for box in index.records["train"][0].labels["lookup"]] == [None, None, "tom", None]  # type: ignore[union-attr]


def test_names_that_the_format_cannot_have_are_changed_and_counted(folder: Any, tmp_path: Path) -> None:
    names = ["deep/photo 1.png", ".hidden.png", "a.png", "a.jpg"]
    folder.coco("train", {name: [{}] for name in names})
    folder.coco("val", {"b.png": [{}]})
    conversion, index = converted(folder, "voc", tmp_path / "voc")
    assert [record.file_name for record in index.records["train"]] == [
        "_hidden.png",
        "a.jpg",
        "a_2.png",
        "deep/photo_1.png",
    ]
    assert conversion.lost == {"names of images (changed)": 3}
    conversion, index = converted(folder, "yolo", tmp_path / "yolo")
    assert len(boxes_by_image(index)["train"]) == 4
    assert conversion.lost == {"names of images (changed)": 2}


def test_settings_of_the_images_and_several_sources_are_kept(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    source = {"images": "images", "labels": folder.labels, "exif": "apply", "batch_size": 4}
    conversion, _ = converted(folder, "yolo", tmp_path / "one", sources={"s": source})
    assert conversion.document["data"]["sources"]["s"]["exif"] == "apply"
    assert conversion.document["data"]["sources"]["s"]["batch_size"] == 4
    folder.image("../more/c.png")
    folder.text(
        "one.json", json.dumps(folder.coco("train", {"a.png": [{}]}) | {"images": [{"id": 100, "file_name": "c.png"}]})
    )
    more = {"images": "more", "labels": [folder.labels[0] | {"path": "one.json"}], "splits": {"train": "train"}}
    both = {"s": source, "t": more | {"exif": "apply"}}
    _, index = converted(folder, "coco", tmp_path / "two", sources=both)
    assert [record.file_name for record in index.records["train"]] == ["s/a.png", "t/c.png"]
    with pytest.raises(ConfigError, match="different settings"):
        convert(folder.job(sources={"s": source, "t": more}), folder.root, tmp_path / "three", "coco")


def test_document_keeps_the_settings_of_the_training(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    document = folder.job().model_dump(mode="json", exclude_unset=True)
    given = {"trainer": {"max_epochs": 7}, "model": document["model"] | {"neck": {"norm": "bn"}}}
    data = document["data"] | {"image_size": 96, "augment": "light"}
    document |= given | {"data": data}
    job = validate_document(document)
    conversion = convert(job, folder.root, tmp_path / "out", "voc", given=document)
    written = load_job([str(tmp_path / "out/job.yaml")])
    assert (written.trainer, written.model) == (job.trainer, job.model)
    assert (written.data.image_size, written.data.augment) == (96, job.data.augment)
    assert conversion.document["data"]["root"] == "out"


def test_conversion_is_refused_where_it_cannot_be_right(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{"category_id": 9}]})
    folder.coco("val", {"b.png": [{}]})
    with pytest.raises(DataError, match="category_id 9 is not declared"):
        convert(folder.job(), folder.root, tmp_path / "out", "coco")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        convert(folder.job(), folder.root, folder.root, "coco")
    with pytest.raises(ConfigError, match="choose one of coco, voc, yolo"):
        convert(folder.job(), folder.root, tmp_path / "out", "cvat")
    with pytest.raises(ConfigError, match="choose a task that learns from boxes: things"):
        convert(folder.job(), folder.root, tmp_path / "out", "coco", "other")
    two = folder.job(
        tasks=folder.tasks | {"more": {"head": "fcos"}}, labels=[folder.labels[0] | {"tasks": ["things", "more"]}]
    )
    with pytest.raises(ConfigError, match="choose the task whose boxes are written: things, more"):
        convert(two, folder.root, tmp_path / "out", "coco")


def test_command_prints_what_is_written_and_lost_and_links_images(
    folder: Any, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("converted")
    folder.coco("train", {"a.png": [{"iscrowd": 1}, {}]})
    folder.coco("val", {"b.png": [{}]})
    config = folder.root / "job.yaml"
    config.write_text(json.dumps(folder.job().model_dump(mode="json", exclude_unset=True)))
    options = ["--to", "yolo", "--out", str(out), "--link", "--data.root", str(folder.root)]
    assert main(["data", "convert", "--config", str(config), *options]) == 0
    printed = capsys.readouterr().out
    assert "1 train, 1 val images with 3 boxes, and a job document:" in printed
    assert "Not written in the format yolo: 1 crowd regions" in printed
    assert f"  pyramidion fit --config {out / 'job.yaml'} --data-root {out.parent}\n" in printed
    assert (out / "images/train/a.png").samefile(folder.root / "images/a.png")


@pytest.mark.parametrize(("to", "name"), [("coco", " cat"), ("voc", "c\x01t"), ("voc", "c\rt"), ("yolo", "c\x85t")])
def test_name_that_the_files_would_change_is_refused(folder: Any, tmp_path: Path, to: str, name: str) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    job = folder.job(labels=[folder.labels[0] | {"classes": {"cat": name}}])
    with pytest.raises(ConfigError, match=r"cannot contain the name .*; rename classes with `classes`"):
        convert(job, folder.root, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", WRITERS)
def test_unusual_names_of_images_and_classes_are_kept_or_changed_so_that_they_are_read(
    folder: Any, tmp_path: Path, to: str
) -> None:
    images = ["a/1.png", "b/1.png", "b/1.bmp", "-x.png", "images/q.png", "c\x01d.png", "n\nl.png", "{split}.png"]
    folder.coco("train", {name: [{}] for name in images})
    folder.coco("val", {"b.png": [{}]})
    _, index = converted(folder, to, tmp_path / "out", labels=[folder.labels[0] | {"classes": {"cat": "-a/b\n: é😀"}}])
    assert len(index.records["train"]) == len(images)
    assert {category.name for category in index.categories["things"]} == {"-a/b\n: é😀"}
