"""Latency and throughput of a model by runtime, precision, batch and threads."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import torch

from pipelines.export.inputs import one_image
from pipelines.export.timing import cpu_name, times_in_turns
from pipelines.inference.network import Network
from pipelines.spec.exported_variant import BenchmarkRow, ModelBenchmark

LoadNetwork = Callable[[int], Network]
"""Returns a network that computes with a number of threads."""


def benchmark(
    loaders: Mapping[str, LoadNetwork],
    size_hw: tuple[int, int],
    *,
    batches: Sequence[int],
    threads: Sequence[int],
    rounds: int,
) -> ModelBenchmark:
    """Return the times of networks, by name; all of them are measured in turns, from pixels to predictions.

    Args:
        loaders: by name, such as `torch-fp32` and `openvino-int8`.
        size_hw: of the images, before padding.
        batches: numbers of images at once.
        threads: numbers of threads of one run.
        rounds: number of measurements of each network.
    """
    image, (size,) = one_image(size_hw)
    before = torch.get_num_threads()
    rows: list[BenchmarkRow] = []
    try:
        for number in threads:
            torch.set_num_threads(number)
            networks = {name: load(number) for name, load in loaders.items()}
            for batch in batches:
                images, sizes = image.repeat(batch, 1, 1, 1), [size] * batch
                calls = [_call(network, images, sizes) for network in networks.values()]
                for name, seconds in zip(networks, times_in_turns(calls, rounds), strict=True):
                    rows.append(_row(name, batch, number, sorted(seconds)))
    finally:
        torch.set_num_threads(before)
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    return ModelBenchmark(cpu=cpu_name(), size_hw=size_hw, rounds=rounds, measured_at=measured_at, rows=tuple(rows))


def _call(network: Network, images: torch.Tensor, sizes: list[tuple[int, int]]) -> Callable[[], object]:
    return lambda: network.predict(images, sizes)


def _row(name: str, batch: int, threads: int, seconds: Sequence[float]) -> BenchmarkRow:
    middle, slow = (seconds[min(int(share * len(seconds)), len(seconds) - 1)] for share in (0.5, 0.99))
    return BenchmarkRow(
        name=name,
        batch=batch,
        threads=threads,
        p50_ms=round(1000 * middle, 3),
        p99_ms=round(1000 * slow, 3),
        images_per_s=round(batch * len(seconds) / sum(seconds), 3),
    )


def benchmark_table(result: ModelBenchmark) -> str:
    """Return the table that is printed."""
    height, width = result.size_hw
    lines = [f"{width} x {height} px on {result.cpu}, {result.rounds} rounds in turns"]
    lines.append(f"{'':<18} {'batch':>5} {'threads':>7} {'p50 ms':>9} {'p99 ms':>9} {'images/s':>9} {'speedup':>7}")
    reference = {(row.batch, row.threads): row.p50_ms for row in result.rows if row.name == "torch-fp32"}
    for row in sorted(result.rows, key=lambda row: (row.threads, row.batch)):
        speedup = reference[row.batch, row.threads] / row.p50_ms
        numbers = f"{row.p50_ms:>9.1f} {row.p99_ms:>9.1f} {row.images_per_s:>9.1f} {speedup:>7.1f}"
        lines.append(f"{row.name:<18} {row.batch:>5} {row.threads:>7} {numbers}")
    return "\n".join(lines)
