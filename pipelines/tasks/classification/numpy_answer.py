"""The answer of a classification task, given the outputs of an exported graph, see `TaskKind.numpy_functions`."""

from typing import Any

import numpy as np


def classification(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Return all classes of the task `name` with calibrated scores, best first."""
    is_exclusive = model["model"]["tasks"][name]["head"] == "multiclass"
    scores = outputs[f"{name}.scores"][0].astype(np.float64).clip(1e-12, 1 - 1e-12)
    odds = (scores if is_exclusive else scores / (1 - scores)) ** (1 / model["temperatures"].get(name, 1))
    scores = odds / odds.sum() if is_exclusive else odds / (1 + odds)
    rows = zip(model["categories"][name], scores.tolist(), strict=True)
    labels = [{"label": category["name"], "score": score} for category, score in rows]
    return {"labels": sorted(labels, key=lambda row: -row["score"])}
