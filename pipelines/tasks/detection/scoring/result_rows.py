"""Read a COCO results list row by row, so that other threads run meanwhile, and its rows are not kept."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from pipelines.tasks.detection.scoring.boxes import CocoRow, FoundBoxes

BLOCK_ROWS = 10_000
_GAP = re.compile(r"[\s,]*")


def read_found(path: Path) -> FoundBoxes:
    """Return the detections of a COCO results list; raises ValueError if it is damaged."""
    rows = iter_rows(path)
    blocks = [FoundBoxes.from_rows([])]
    while block := list(islice(rows, BLOCK_ROWS)):
        blocks.append(FoundBoxes.from_rows(block))
    columns = zip(*((b.image_ids, b.category_ids, b.boxes_xywh, b.scores) for b in blocks), strict=True)
    return FoundBoxes(*(np.concatenate(column) for column in columns))


def iter_rows(path: Path) -> Iterator[CocoRow]:
    """Yield the elements of a JSON list; raises ValueError if it is damaged."""
    text = path.read_text("utf-8")
    decoder = json.JSONDecoder()
    start = _end_of_gap(text, 0)
    if text[start : start + 1] != "[":
        raise ValueError(f"{path.name} is not a JSON list")
    position = _end_of_gap(text, start + 1)
    while text[position : position + 1] != "]":
        row, position = decoder.raw_decode(text, position)
        yield row
        position = _end_of_gap(text, position)


def _end_of_gap(text: str, position: int) -> int:
    match = _GAP.match(text, position)
    assert match is not None
    return match.end()
