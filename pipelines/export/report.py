"""`exports/report.json`, all exports of a model, and their metrics for MLflow. Torch-free."""

import json

from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import write_atomic
from pipelines.runtimes.variant import read_variants
from pipelines.spec.exported_variant import ExportReport, VariantResult


def write_report(exports: ExportsDir) -> ExportReport:
    """Write the report of all complete exports in a folder, and return it."""
    report = ExportReport(variants={variant.name: variant.result for variant, _ in read_variants(exports)})
    content = report.model_dump(mode="json")
    write_atomic(exports.report, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return report


def export_metrics(result: VariantResult) -> dict[str, float | None]:
    """Return the metrics of an export for MLflow, by name: `export/<its name>/<metric>`, and its times."""
    prefix = f"export/{result.name}"
    metrics = {f"{prefix}/{name}": pair.variant for name, pair in result.metrics.items()}
    metrics[f"{prefix}/servable"] = float(result.servable)
    if result.latency is not None:
        metrics[f"{prefix}/latency_ms"] = result.latency.runtime_ms
        metrics[f"{prefix}/torch_latency_ms"] = result.latency.torch_ms
    return metrics
