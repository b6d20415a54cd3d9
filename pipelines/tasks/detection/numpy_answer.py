"""The answer of a detection task, given the outputs of an exported graph, see `TaskKind.numpy_functions`."""

from typing import Any

import numpy as np

from pipelines.tasks.numpy_detections import best_objects


def detection(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Return the objects of the task `name`, best first."""
    detections = []
    for found in best_objects(name, outputs, model):
        category = found["category"]
        detections.append(
            {
                "category_id": category["id"],
                "label": category["name"],
                "score": found["score"],
                "bbox_xywh": found["bbox_xywh"],
            }
        )
    return {"detections": detections}
