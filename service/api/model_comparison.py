"""Comparison of two versions of a model. Torch-free."""

from collections.abc import Mapping
from typing import Any

from pipelines.tracking.model_versions import ModelVersion
from service.api.document_differences import differences
from service.rest.model_version_schemas import FieldComparison, MetricComparison, ModelComparison


def compare_versions(
    first: ModelVersion, second: ModelVersion, first_document: Mapping[str, Any], second_document: Mapping[str, Any]
) -> ModelComparison:
    """Return metrics side by side, and the fields of the documents that differ."""
    names = sorted({*first.val_metrics, *second.val_metrics})
    return ModelComparison(
        name=first.name,
        first=first.version,
        second=second.version,
        is_comparable=first.val_fingerprint is not None and first.val_fingerprint == second.val_fingerprint,
        metrics=[_compare_metric(name, first.val_metrics.get(name), second.val_metrics.get(name)) for name in names],
        document=[
            FieldComparison(field=field, first=values[0], second=values[1])
            for field, values in differences([first_document, second_document])
        ],
    )


def _compare_metric(name: str, first: float | None, second: float | None) -> MetricComparison:
    difference = None if first is None or second is None else second - first
    return MetricComparison(name=name, first=first, second=second, difference=difference)
