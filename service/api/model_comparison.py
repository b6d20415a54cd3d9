"""Comparison of two versions of a model. Torch-free."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.tracking.model_versions import ModelVersion
from service.rest.model_version_schemas import FieldComparison, MetricComparison, ModelComparison

_ABSENT = object()


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
        document=list(_differences("", first_document, second_document)),
    )


def _compare_metric(name: str, first: float | None, second: float | None) -> MetricComparison:
    difference = None if first is None or second is None else second - first
    return MetricComparison(name=name, first=first, second=second, difference=difference)


def _differences(path: str, first: Any, second: Any) -> Iterator[FieldComparison]:
    """Yield the fields that differ; lists are compared as a whole."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted({*first, *second}):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(below, first.get(key, _ABSENT), second.get(key, _ABSENT))
    elif first != second:
        yield FieldComparison(field=path, first=_shown(first), second=_shown(second))


def _shown(value: Any) -> Any:
    return None if value is _ABSENT else value
