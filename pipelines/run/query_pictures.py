"""Pictures of the worst queries of embedding tasks beside their nearest neighbors."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from pipelines.base.pictures import FAST_PNG, draw_boxes, draw_sheet
from pipelines.base.records import ImageRecord, Split
from pipelines.data.source_images import read_source_image
from pipelines.run.attempt import Attempt
from pipelines.tasks.labels import box_labels

CELL_PX, FRAME_PX = 260, 8
MARGIN = 0.15
"""Space around an object, as a share of its sides."""

RIGHT, WRONG, QUERY = "#2ca02c", "#d62728", "#1f77b4"


def write_query_pictures(attempt: Attempt, split: Split, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw one row for each entry of `worst_queries` into plots/<split>_worst_queries_<task>.png; on rank 0.

    A row has the query, its nearest neighbors with their similarities, framed in green if they have its identity and
    else in red. Objects are cut out of their images.

    Args:
        attempt: its run folder gets the pictures.
        split: the scored split.
        tasks: by task, as in result.json.
    """
    # A gallery may be the training split.
    records = {record.image_id: record for name in {split, "train"} for record in attempt.index.records.get(name, ())}
    for name, result in tasks.items():
        rows = [
            [_cell(attempt, name, records, item, color) for item, color in _items(query)]
            for query in result.get("worst_queries", ())
        ]
        if not rows:
            continue
        width = max(len(row) for row in rows)
        columns = ["query", *(str(rank) for rank in range(1, width))]
        attempt.run_dir.plots.mkdir(parents=True, exist_ok=True)
        path = attempt.run_dir.plots / f"{split}_worst_queries_{name}.png"
        draw_sheet(columns, rows, CELL_PX).save(path, compress_level=FAST_PNG)


def _items(query: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """Return the items of a row with the colors of their frames."""
    found = [(item, RIGHT if item["identity"] == query["identity"] else WRONG) for item in query["neighbors"]]
    return [(query, QUERY), *found]


def _cell(
    attempt: Attempt, task: str, records: Mapping[int, ImageRecord], item: Mapping[str, Any], color: str
) -> Image.Image:
    record = records[item["image_id"]]
    image = read_source_image(record.path, record.source, attempt.job.data.sources[record.source])
    if item["annotation_id"] is not None:
        labels = {label.annotation_id: label for label in box_labels(task, record)}
        image = image.crop(_with_margin(labels[item["annotation_id"]].bbox_xywh, image.size))
    side = CELL_PX - 2 * FRAME_PX
    image = ImageOps.contain(image, (side, side))
    image = ImageOps.pad(image, (side, side), color="white")
    similarity = f", {item['similarity']:.2f}" if "similarity" in item else ""
    captioned = draw_boxes(image, [], [], caption=f"{item['identity']}{similarity}")
    return ImageOps.expand(captioned, FRAME_PX, fill=color)


def _with_margin(bbox_xywh: tuple[float, float, float, float], size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels of a box with some space around it, at least one pixel wide."""
    x, y, width, height = bbox_xywh
    left, top = max(0, int(x - MARGIN * width)), max(0, int(y - MARGIN * height))
    right, bottom = int(x + (1 + MARGIN) * width) + 1, int(y + (1 + MARGIN) * height) + 1
    return left, top, min(size_wh[0], max(right, left + 1)), min(size_wh[1], max(bottom, top + 1))
