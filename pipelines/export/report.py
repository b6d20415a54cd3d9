"""`exports/report.json`: all exports of a model, and the table that is printed."""

import json
from collections.abc import Iterator

from pipelines.evaluation.conditions import main_metrics
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import write_atomic
from pipelines.runtimes.variant import read_variants
from pipelines.spec.exported_variant import ExportReport, MetricPair, Parity, VariantResult
from pipelines.spec.model import ModelSpec


def write_report(exports: ExportsDir) -> ExportReport:
    """Write the report of all complete exports in a folder, and return it."""
    report = ExportReport(variants={variant.name: variant.result for variant, _ in read_variants(exports)})
    content = report.model_dump(mode="json")
    write_atomic(exports.report, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return report


def main_pairs(model: ModelSpec, result: VariantResult) -> Iterator[tuple[str, MetricPair]]:
    """Yield the main metric of each task on each split that was scored, with its name."""
    for split in ("val", "test"):
        for task, metric in main_metrics(model).items():
            if (pair := result.metrics.get(name := f"{split}/{task}/{metric}")) is not None:
                yield name, pair


def differences_text(parity: Parity) -> str:
    """Return how far an export is from torch, in what the model predicts."""
    texts = []
    if parity.scores is not None:
        texts.append(f"scores {parity.scores:.1e}")
    if parity.boxes_px is not None:
        texts.append(f"boxes {parity.boxes_px:.4f} px")
    if parity.embeddings is not None:
        texts.append(f"embeddings {parity.embeddings:.1e}")
    return ", ".join(texts) or "nothing to compare"


def export_metrics(result: VariantResult) -> dict[str, float | None]:
    """Return the metrics of an export for MLflow, by name: `export/<its name>/<metric>`, and its times."""
    prefix = f"export/{result.name}"
    metrics = {f"{prefix}/{name}": pair.variant for name, pair in result.metrics.items()}
    metrics[f"{prefix}/servable"] = float(result.servable)
    if result.latency is not None:
        metrics[f"{prefix}/latency_ms"] = result.latency.runtime_ms
        metrics[f"{prefix}/torch_latency_ms"] = result.latency.torch_ms
    return metrics


def result_lines(model: ModelSpec, result: VariantResult) -> Iterator[str]:
    """Yield what is printed about one export."""
    for name, pair in main_pairs(model, result):
        numbers = ["undefined" if value is None else f"{value:.4f}" for value in (pair.torch, pair.variant)]
        yield f"{name}: torch float32 {numbers[0]}, {result.name} {numbers[1]}"
    if (parity := result.parity) is not None:
        yield f"largest differences from torch on {parity.num_images} images of val: {differences_text(parity)}"
    if (latency := result.latency) is not None:
        yield (
            f"one image of {latency.size_hw[1]} x {latency.size_hw[0]} with {latency.threads} threads: torch "
            f"{latency.torch_ms:.1f} ms, {result.name} {latency.runtime_ms:.1f} ms, {latency.speedup:.1f} times as fast"
        )
    yield f"{result.size_bytes / 1e6:.1f} MB; {'may be served' if result.servable else 'is not served'}"
