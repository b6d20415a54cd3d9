"""The analyses of an entry of a classification task in result.json, see `pipelines.spec.analyses`. Torch-free."""

from collections.abc import Mapping
from typing import Any


def classification_analyses(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the analyses by name; results of earlier versions, or with very many classes, lack some."""
    rows = result["per_class"]
    views: dict[str, dict[str, Any]] = {}
    if any(row.get("precision_at_recall") for row in rows):
        fields = ("label", "precision_at_recall", "recall_at_fpr")
        views["curves"] = {"per_class": [{name: row.get(name) for name in fields} for row in rows]}
    outcomes = [{"label": row["label"], "counts": row["confusion"]} for row in rows if row.get("confusion")]
    if outcomes or result["confusion_matrix"] is not None:
        labels = [row["label"] for row in rows]
        views["confusion"] = {"labels": labels, "counts": result["confusion_matrix"], "per_class": outcomes}
    if calibration := result.get("calibration"):
        per_class = [{"label": row["label"], "ece": row.get("ece")} for row in rows]
        views["calibration"] = {"calibration": calibration, "per_class": per_class}
    return views
