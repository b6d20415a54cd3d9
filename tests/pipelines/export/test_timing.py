"""Several ways to compute the same are measured in turns, and the times become a table."""

import torch
from torch import Tensor

from pipelines.export.benchmark import benchmark, benchmark_table
from pipelines.export.timing import WARM_UP, cpu_name, times_in_turns


class Counter:
    """A network that counts its images by batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, images: Tensor, image_sizes_hw: object, tasks: object = None) -> dict[str, list[object]]:
        self.batches.append(len(images))
        return {}


def test_calls_alternate_after_the_warm_up() -> None:
    order: list[str] = []
    seconds = times_in_turns([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert "".join(order) == "a" * WARM_UP + "b" * WARM_UP + "abab"
    assert [len(own) for own in seconds] == [2, 2]


def test_every_network_is_measured_for_every_batch_and_number_of_threads() -> None:
    networks = {"torch-fp32": Counter(), "openvino-fp32": Counter()}
    loaders = {name: lambda _, own=network: own for name, network in networks.items()}
    before = torch.get_num_threads()
    result = benchmark(loaders, (40, 64), batches=(1, 3), threads=(1, 2), rounds=2)  # type: ignore[arg-type]
    assert torch.get_num_threads() == before
    assert networks["torch-fp32"].batches == ([1] * (WARM_UP + 2) + [3] * (WARM_UP + 2)) * 2
    assert [(row.name, row.batch, row.threads) for row in result.rows[:4]] == [
        ("torch-fp32", 1, 1),
        ("openvino-fp32", 1, 1),
        ("torch-fp32", 3, 1),
        ("openvino-fp32", 3, 1),
    ]
    assert all(0 < row.p50_ms <= row.p99_ms for row in result.rows)
    lines = benchmark_table(result).splitlines()
    assert lines[0].startswith("64 x 40 px on ")
    assert len(lines) == 2 + 8


def test_processor_has_a_name() -> None:
    assert cpu_name()
