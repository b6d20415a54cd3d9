"""The printed summary of an export: its main metrics beside those of torch, its times, and the decision."""

from collections.abc import Iterator

from pipelines.spec.exported_variant import Parity, VariantResult


def result_lines(result: VariantResult) -> Iterator[str]:
    """Yield what is printed about one export."""
    for name, pair in result.main_metrics.items():
        yield f"{name}: torch float32 {metric_text(pair.torch)}, {result.name} {metric_text(pair.variant)}"
    if (parity := result.parity) is not None:
        yield f"largest differences from torch on {parity.num_images} images of val: {differences_text(parity)}"
    if (latency := result.latency) is not None:
        height, width = latency.size_hw
        yield (
            f"one image of {width} x {height} with {latency.threads_text}: torch {latency.torch_ms:.1f} ms, "
            f"{result.name} {latency.runtime_ms:.1f} ms, {latency.speedup:.1f} times as fast"
        )
    yield f"{result.size_bytes / 1e6:.1f} MB; {'may be served' if result.servable else 'is not served'}"


def metric_text(value: float | None) -> str:
    """Return a metric as it is shown."""
    return "undefined" if value is None else f"{value:.4f}"


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
