"""The analyses of an entry of a detection task in result.json, see `pipelines.spec.analyses`. Torch-free."""

from collections.abc import Mapping
from typing import Any

from pipelines.tasks.detection.schemas import BACKGROUND, CURVE_SCORES


def detection_analyses(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the analyses by name; results of earlier versions, or without ground truth, lack some."""
    rows = result["per_class"]
    views: dict[str, dict[str, Any]] = {
        "curves": {
            "scores": CURVE_SCORES if result.get("at_score") else None,
            "at_score": result.get("at_score"),
            "per_class": [
                {name: row.get(name) for name in ("label", "precision_at_recall", "at_score")} for row in rows
            ],
        }
    }
    if confusion := result.get("confusion"):
        views["confusion"] = {"labels": [*(row["label"] for row in rows), BACKGROUND], **confusion}
    if errors := result.get("errors"):
        views["errors"] = {"errors": errors}
    if calibration := result.get("calibration"):
        per_class = [{"label": row["label"], "ece": row.get("ece")} for row in rows]
        views["calibration"] = {"calibration": calibration, "per_class": per_class}
    return views
