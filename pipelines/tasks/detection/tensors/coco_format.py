"""Conversion of records and detections to COCO's structures, which are both scored and written to the run folder."""

from collections.abc import Sequence

import numpy as np

from pipelines.base.records import Category, ImageRecord
from pipelines.tasks.detection.scoring.boxes import CocoFile, CocoRow, FoundBoxes
from pipelines.tasks.detection.tensors.detections import Detections
from pipelines.tasks.labels import box_labels
from pipelines.tasks.tensors.boxes import xyxy_to_xywh


def coco_ground_truth(task: str, categories: Sequence[Category], records: Sequence[ImageRecord]) -> CocoFile:
    """Return a COCO instances file of the images that are labeled for the task, crowd and empty images included.

    Boxes are the cleaned boxes of the records, in original pixels. `area` is that of the label if it has one, otherwise
    width * height. Identities are kept. A difficult object (VOC) is written as a crowd and marked `difficult`, because
    COCO's scorers ignore a box only if it is a crowd.

    Raises:
        ValueError: two boxes share an annotation id, or the category of a box is not one of the task's.
    """
    ids = {category.name: category.id for category in categories}
    labeled = [record for record in records if task in record.labels]
    images = [
        {"id": r.image_id, "file_name": r.file_name, "source": r.source, "width": r.width, "height": r.height}
        for r in labeled
    ]
    annotations: list[CocoRow] = []
    for record in labeled:
        for label in box_labels(task, record):
            if label.category not in ids:
                raise ValueError(
                    f"task {task!r}: annotation {label.annotation_id} of {record.file_name} has the category "
                    f"{label.category!r}; the task has the categories {sorted(ids)}"
                )
            annotation = {
                "id": label.annotation_id,
                "image_id": record.image_id,
                "category_id": ids[label.category],
                "bbox": list(label.bbox_xywh),
                "area": label.bbox_xywh[2] * label.bbox_xywh[3] if label.area is None else label.area,
                "iscrowd": int(label.is_ignored_in_scoring),
            }
            annotation |= {"difficult": 1} if label.is_difficult else {}
            annotation |= {} if label.identity is None else {"identity": label.identity}
            annotations.append(annotation)
    if len({annotation["id"] for annotation in annotations}) != len(annotations):
        raise ValueError(f"task {task!r}: annotation ids are not unique across the sources; renumber them")
    return {
        "info": {"description": f"ground truth of task {task}, cleaned"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


def found_boxes(categories: Sequence[Category], detections: Sequence[tuple[int, Detections]]) -> FoundBoxes:
    """Return pairs of image id and detections as columns in the same order; numbers are not rounded."""
    ids = np.array([category.id for category in categories], dtype=np.int64)
    for image_id, found in detections:
        if len(found.labels) and not 0 <= found.labels.min() <= found.labels.max() < len(ids):
            raise ValueError(f"image {image_id}: labels must be positions below {len(ids)}; got {found.labels.max()}")
    if not detections:
        return FoundBoxes.from_rows([])
    images = np.array([image_id for image_id, _ in detections], dtype=np.int64)
    return FoundBoxes(
        np.repeat(images, [len(found.labels) for _, found in detections]),
        ids[np.concatenate([found.labels for _, found in detections]).astype(np.int64)],
        xyxy_to_xywh(np.concatenate([found.boxes_xyxy for _, found in detections])),
        np.concatenate([found.scores for _, found in detections]).astype(np.float64),
    )


def coco_results(found: FoundBoxes) -> list[CocoRow]:
    """Return detections as a COCO results list in the same order."""
    columns = (found.image_ids, found.category_ids, found.boxes_xywh, found.scores)
    return [
        {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
        for image_id, category_id, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
