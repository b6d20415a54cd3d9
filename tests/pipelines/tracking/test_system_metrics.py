"""Samples of the use of the machine."""

import pytest

from pipelines.tracking import system_metrics
from pipelines.tracking.system_metrics import SystemMetrics, gpu_metrics


def test_sample_has_processors_and_memory_once_per_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = SystemMetrics()
    assert sampler.sample_if_due() == {}
    monkeypatch.setattr(system_metrics, "SAMPLE_EVERY_S", 0.0)
    sampler = SystemMetrics()
    monkeypatch.undo()
    sample = sampler.sample_if_due()
    assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
    assert 0 < sample["system/system_memory_usage_percentage"] < 100
    assert sampler.sample_if_due() == {}


def test_table_of_the_driver_is_read_with_missing_values() -> None:
    metrics = gpu_metrics("87, 40960, 81920, 312.50\n[N/A], 0, 81920, [N/A]\n")
    assert metrics == {
        "gpu_0_utilization_percentage": 87.0,
        "gpu_0_memory_usage_megabytes": pytest.approx(42949.67296),
        "gpu_0_memory_usage_percentage": 50.0,
        "gpu_0_power_usage_watts": 312.5,
        "gpu_1_memory_usage_megabytes": 0.0,
        "gpu_1_memory_usage_percentage": 0.0,
    }
