"""Boxes in other units or in another order are recognized as a layer, and ordinary layers never are."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.dataset.checks.box_readings import corners, other_readings
from pipelines.formats.box_numbers import ORDERS, BoxNumbers, Order
from tests.pipelines.data_folder import DataFolder

XYWH, XYXY = BoxNumbers("xywh"), BoxNumbers("xyxy")
RELATIVE_CENTERS, PERCENT = BoxNumbers("cxcywh", 1), BoxNumbers("xywh", 100)
VOC = [{"format": "voc", "tasks": ["things"]}]


def spread(
    seed: int,
    num_boxes: int,
    *,
    share: tuple[float, float] = (0.05, 0.4),
    whole: bool = True,
    sides: tuple[int, int] = (300, 1200),
) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y, width, height of random boxes inside of their images, and the sizes of these (width, height)."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*sides, (num_boxes, 2), endpoint=True).astype(float)
    boxes_wh = np.maximum(rng.uniform(*share, (num_boxes, 2)) * sizes, 1)
    xy = rng.uniform(0, 1, (num_boxes, 2)) * (sizes - boxes_wh)
    boxes = np.concatenate([xy, boxes_wh], axis=1)
    return np.floor(boxes) if whole else boxes, sizes


def written(boxes_xywh: np.ndarray, sizes: np.ndarray, order: Order, scale: int) -> np.ndarray:
    """Return the numbers of boxes in another order and unit."""
    x, y, width, height = boxes_xywh.T
    numbers = {
        "xywh": (x, y, width, height),
        "xyxy": (x, y, x + width, y + height),
        "cxcywh": (x + width / 2, y + height / 2, width, height),
        "yxhw": (y, x, height, width),
        "yxyx": (y, x, y + height, x + width),
    }[order]
    sides = sizes[:, [1, 0, 1, 0]] if order.startswith("y") else sizes[:, [0, 1, 0, 1]]
    array = np.stack(numbers, axis=1)
    return array if scale == 0 else array / sides * scale


@pytest.mark.parametrize("order", ORDERS)
def test_corners_are_those_of_the_order(order: Order) -> None:
    boxes, sizes = spread(0, 9, whole=False)
    expected = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    np.testing.assert_allclose(corners(written(boxes, sizes, order, 0), order), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("order", ["xyxy", "cxcywh", "yxyx"])
def test_other_order_of_pixels_is_recognized(order: Order, seed: int) -> None:
    boxes, sizes = spread(seed, 200)
    readings = other_readings(written(boxes, sizes, order, 0), sizes, XYWH)
    assert [(reading.order, reading.scale) for reading in readings] == [(order, 0)]


def test_swapped_axes_are_recognized_in_images_that_are_not_square() -> None:
    boxes, sizes = spread(1, 200)
    sizes[:, 0] *= 2
    boxes[:, [0, 2]] *= 2
    readings = other_readings(written(boxes, sizes, "yxhw", 0), sizes, XYWH)
    assert [(reading.order, reading.scale) for reading in readings] == [("yxhw", 0)]


@pytest.mark.parametrize("order", ["xywh", "xyxy", "cxcywh", "yxyx"])
@pytest.mark.parametrize("num_boxes", [3, 200])
def test_relative_boxes_are_recognized_in_any_order(order: Order, num_boxes: int) -> None:
    boxes, sizes = spread(2, num_boxes, whole=False)
    readings = other_readings(written(boxes, sizes, order, 1), sizes, XYWH)
    assert {reading.scale for reading in readings} == {1}
    if num_boxes == 200 and order != "yxyx":
        assert [reading.order for reading in readings] == [order]


@pytest.mark.parametrize("scale", [100, 1000])
@pytest.mark.parametrize("sides", [(30, 90), (300, 900), (1600, 3000)])
@pytest.mark.parametrize("order", ["xywh", "xyxy", "cxcywh", "yxyx"])
def test_percent_and_thousandths_are_recognized(order: Order, sides: tuple[int, int], scale: int) -> None:
    boxes, sizes = spread(3, 300, share=(0.05, 0.6), whole=False, sides=sides)
    readings = other_readings(written(boxes, sizes, order, scale), sizes, XYWH)
    assert {reading.scale for reading in readings} == {scale}
    assert order in {reading.order for reading in readings}


def test_sizes_in_the_place_of_corners_are_recognized() -> None:
    boxes, sizes = spread(4, 200)
    assert [reading.order for reading in other_readings(boxes, sizes, XYXY)] == ["xywh"]


@given(
    seed=st.integers(0, 2**32),
    num_boxes=st.integers(1, 80),
    share=st.sampled_from([(0.0, 0.02), (0.05, 0.4), (0.3, 0.9), (0.8, 1.0), (1.0, 1.0)]),
    sides=st.sampled_from([(1, 7), (4, 40), (64, 64), (120, 160), (300, 1200), (640, 640), (2000, 5000)]),
    whole=st.booleans(),
    sloppy_px=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_ordinary_boxes_in_pixels_are_never_another_reading(
    seed: int, num_boxes: int, share: tuple[float, float], sides: tuple[int, int], whole: bool, sloppy_px: float
) -> None:
    boxes, sizes = spread(seed, num_boxes, share=share, whole=whole, sides=sides)
    noise = np.random.default_rng(seed).uniform(-sloppy_px, sloppy_px, boxes.shape)
    assert other_readings(boxes + noise, sizes, XYWH) == []
    with_corners = written(boxes, sizes, "xyxy", 0) + noise
    assert other_readings(with_corners, sizes, XYXY) == []
    assert other_readings(written(boxes, sizes, "cxcywh", 1), sizes, RELATIVE_CENTERS) == []
    assert other_readings(written(boxes, sizes, "xywh", 100), sizes, PERCENT) == []


@pytest.mark.parametrize(
    ("declared", "order", "scale"),
    [
        (RELATIVE_CENTERS, "xyxy", 1),
        (RELATIVE_CENTERS, "xywh", 1),
        (PERCENT, "xyxy", 100),
        (PERCENT, "xywh", 1),
        (PERCENT, "xywh", 0),
        (XYXY, "xywh", 1),
    ],
)
def test_formats_with_relative_boxes_or_corners_are_judged_too(declared: BoxNumbers, order: Order, scale: int) -> None:
    boxes, sizes = spread(6, 60, share=(0.1, 0.6), whole=False)
    readings = other_readings(written(boxes, sizes, order, scale), sizes, declared)
    assert [(reading.order, reading.scale) for reading in readings] == [(order, scale)]


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([[0, 0, 1, 1]], (640, 480)),
        ([[0.2, 0.1, 0.5, 0.5]], (64, 48)),
        ([[0, 0, 1, 1], [0, 0, 1, 1]], (1, 1)),
        ([[0, 0, 2, 2], [1, 1, 1, 1], [0, 1, 1, 1]], (4, 4)),
        ([[600, 440, 200, 200]], (640, 480)),
        ([[10, 10, 5, 5], [3, 3, 6, 9], [40, 30, 60, 44], [8, 9, 9, 9]], (64, 48)),
        ([[0, 0, 640, 480]] * 30, (640, 480)),
        ([[3, 2, 640, 480]] * 30, (640, 480)),
        ([[10, 10, 30, 40]] * 30, (640, 480)),
        ([[5, 5, 90, 40]] * 30, (640, 480)),
    ],
)
def test_unusual_but_valid_boxes_are_not_another_reading(boxes: list[list[float]], size: tuple[int, int]) -> None:
    assert other_readings(np.asarray(boxes, float), np.full((len(boxes), 2), size, float), XYWH) == []


def test_some_wild_boxes_do_not_make_another_reading() -> None:
    boxes, sizes = spread(5, 200)
    boxes[::5, 2:] += sizes[::5]
    assert other_readings(boxes, sizes, XYWH) == []


@pytest.mark.parametrize(
    ("bbox", "fragments"),
    [
        (
            [0.1, 0.1, 0.3, 0.4],
            ["all numbers of 4 of 4 are between 0 and 1", "[0.1, 0.1, 0.3, 0.4] in a.png, 60 x 40", "multiply x"],
        ),
        ([30, 10, 55, 38], ["look like [x1, y1, x2, y2] in pixels", "width = x2 - x1"]),
        ([40, 20, 38, 36], ["look like [center x, center y, width, height] in pixels"]),
    ],
)
def test_layer_in_another_reading_is_one_error_with_an_example(
    folder: DataFolder, bbox: list[float], fragments: list[str]
) -> None:
    folder.coco("train", {"a.png": [{"bbox": bbox}], "c.png": [{"bbox": bbox}]})
    folder.coco("val", {"b.png": [{"bbox": bbox}], "d.png": [{"bbox": bbox}]})
    _, report = folder.check()
    (finding,) = report.errors
    assert (finding.kind, finding.file) == ("box_units", "train.json")
    assert "the boxes of train and val are not [x, y, width, height] in pixels" in finding.message
    assert all(fragment in finding.message for fragment in fragments), finding.message


def test_one_split_in_another_reading_is_an_error_of_that_split(folder: DataFolder) -> None:
    folder.coco("train", {"a.png": [{"bbox": [j, 3, 20, 20]} for j in range(30)]})
    folder.coco("val", {"b.png": [{"bbox": [0.5, 0.25, 0.125, 0.25]}, {"bbox": [0.2, 0.2, 0.3, 0.3]}]})
    (finding,) = folder.check()[1].errors
    assert (finding.kind, finding.split, finding.file) == ("box_units", "val", "val.json")


def test_voc_files_with_relative_corners_or_sizes_are_errors(folder: DataFolder) -> None:
    def write(*corners: tuple[float, ...]) -> Any:
        for split, name in (("train", "a"), ("val", "b")):
            folder.image(f"{name}.png")
            objects = "".join(
                "<object><name>cat</name><bndbox>"
                + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
                + "</bndbox></object>"
                for box in corners
            )
            folder.text(f"Annotations/{name}.xml", f"<annotation>{objects}</annotation>")
            folder.text(f"ImageSets/Main/{split}.txt", f"{name}\n")
        return folder.check(labels=VOC)[1]

    (relative,) = write((0.1, 0.1, 0.4, 0.5), (0.2, 0.3, 0.9, 1.0)).errors
    assert relative.kind == "box_units"
    assert "are not [x1, y1, x2, y2] in pixels: all numbers of 4 of 4 are between 0 and 1" in relative.message
    sizes, *_ = write((1, 1, 20, 15), (30, 20, 12, 9), (40, 25, 20, 15)).errors
    assert "look like [x, y, width, height] in pixels" in sizes.message
    assert "the first one plus width and height" in sizes.message
    assert not write((1, 1, 60, 40), (5, 5, 9, 9)).errors


def test_yolo_rows_with_corners_are_an_error(folder: DataFolder) -> None:
    for split in ("train", "val"):
        folder.image(f"{split}/a.png")
        folder.text(f"labels/{split}/a.txt", "0 0.6 0.6 0.9 0.95\n0 0.5 0.7 0.8 0.95\n")
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat]\n")
    (finding,) = folder.check(labels=[{"format": "yolo", "path": "data.yaml", "tasks": ["things"]}])[1].errors
    assert "the boxes of train and val are not [center x, center y, width, height] in parts of" in finding.message
    assert "look like [x1, y1, x2, y2] in parts of the image's size" in finding.message


@pytest.mark.parametrize("order", ["xywh", "xyxy", "cxcywh"])
@pytest.mark.parametrize("unit", ["pixels", "relative"])
def test_declared_numbers_of_coco_give_the_boxes_of_pixels(folder: DataFolder, order: Order, unit: str) -> None:
    expected = [[6.0, 4.0, 30.0, 20.0], [12.0, 8.0, 24.0, 16.0]]
    numbers = written(np.asarray(expected), np.full((2, 2), (60.0, 40.0)), order, int(unit == "relative")).tolist()
    boxes = [{"bbox": bbox} for bbox in numbers]
    folder.coco("train", {"a.png": boxes})
    folder.coco("val", {"b.png": boxes})
    index, report = folder.check(labels=[{**folder.labels[0], "bbox": order, "unit": unit}])
    assert not report.findings
    assert [label.bbox_xywh for label in index.records["train"][0].labels["things"]] == [
        pytest.approx(box) for box in expected
    ]


def test_message_names_the_setting_that_reads_the_file_as_it_is(folder: DataFolder) -> None:
    for split, name in (("train", "a.png"), ("val", "b.png")):
        folder.coco(split, {name: [{"bbox": [0.2, 0.1, 0.9, 0.95]}, {"bbox": [0.5, 0.5, 0.75, 0.75]}]})
    (finding,) = folder.check()[1].errors
    setting = "add bbox: xyxy and unit: relative to the layer 'coco' of data.sources.s.labels"
    assert setting in finding.message
    assert not folder.check(labels=[{**folder.labels[0], "bbox": "xyxy", "unit": "relative"}])[1].errors


@pytest.mark.parametrize("box_format", ["coco", "voc", "cvat", "datumaro"])
def test_unit_pixels_confirms_the_numbers(folder: DataFolder, box_format: str) -> None:
    box = [0.25, 0.25, 0.5, 0.5]
    layer: dict[str, object] = {"format": box_format, "tasks": ["things"]}
    for split, name in (("train", "a.png"), ("val", "b.png")):
        folder.coco(split, {name: [{"bbox": box}, {"bbox": box}]})
    if box_format == "coco":
        layer["path"] = "{split}.json"
    elif box_format == "voc":
        corners = "<xmin>0.25</xmin><ymin>0.25</ymin><xmax>0.75</xmax><ymax>0.75</ymax>"
        objects = 2 * f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
        for split, name in (("train", "a"), ("val", "b")):
            folder.text(f"Annotations/{name}.xml", f"<annotation>{objects}</annotation>")
            folder.text(f"ImageSets/Main/{split}.txt", name)
    elif box_format == "cvat":
        layer["path"] = "{split}.xml"
        shapes = 2 * '<box label="cat" xtl="0.25" ytl="0.25" xbr="0.75" ybr="0.75"/>'
        for split, name in (("train", "a.png"), ("val", "b.png")):
            folder.text(f"{split}.xml", f'<annotations><image name="{name}">{shapes}</image></annotations>')
    else:
        annotations = 2 * [{"type": "bbox", "bbox": box, "label_id": 0}]
        for split, name in (("train", "a"), ("val", "b")):
            document = {
                "categories": {"label": {"labels": [{"name": "cat"}]}},
                "items": [{"id": name, "annotations": annotations}],
            }
            folder.text(f"annotations/{split}.json", json.dumps(document))
    _, report = folder.check(labels=[layer])
    (finding,) = report.errors
    assert (finding.kind, "add unit: pixels" in finding.message) == ("box_units", True)
    _, report = folder.check(labels=[layer | {"unit": "pixels"}])
    assert not report.errors


def test_unit_relative_confirms_the_numbers_of_yolo(folder: DataFolder) -> None:
    # Corners in place of centers and sizes: as YOLO's numbers, all of these boxes leave their images by far.
    rows = "0 0.6 0.6 0.95 0.9\n0 0.1 0.7 0.5 0.98\n0 0.7 0.1 0.99 0.6\n0 0.05 0.05 0.4 0.9\n"
    for split, name in (("train", "a"), ("val", "b")):
        folder.coco(split, {f"{name}.png": []})
        folder.text(f"labels/{name}.txt", rows)
        folder.text(f"{split}.txt", f"./images/{name}.png")
    folder.text("data.yaml", "names: [cat]\ntrain: train.txt\nval: val.txt\n")
    layer = {"format": "yolo", "tasks": ["things"]}
    errors = folder.check(labels=[layer])[1].errors
    assert errors
    assert all((e.kind, "add unit: relative" in e.message) == ("box_units", True) for e in errors)
    assert not folder.check(labels=[layer | {"unit": "relative"}])[1].errors
