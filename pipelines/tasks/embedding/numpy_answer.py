"""The answers of embedding tasks, given the outputs of an exported graph, see `TaskKind.numpy_functions`."""

from typing import Any

import numpy as np

from pipelines.tasks.numpy_detections import best_objects


def image_embedding(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Return the vector of the image."""
    return {"embedding": outputs[f"{name}.embeddings"][0].tolist()}


def object_embeddings(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Return the vectors of the objects that a detection task finds, in the order of its answer."""
    vectors = outputs[f"{name}.embeddings"].tolist()
    detection_tasks = [output.removesuffix(".boxes") for output in outputs if output.endswith(".boxes")]
    source = model["model"]["tasks"][name]["boxes_from"] or detection_tasks[0]
    objects = best_objects(source, outputs, model)
    return {
        "embeddings": [
            {"bbox_xywh": found["bbox_xywh"], "score": found["score"], "embedding": vectors[found["row"]]}
            for found in objects
        ]
    }
