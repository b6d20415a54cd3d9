"""Use of this machine during a run, under MLflow's names for system metrics. Torch-free."""

import subprocess
import time

import psutil

SAMPLE_EVERY_S = 10.0

_GPU_QUERY = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu,memory.used,memory.total,power.draw",
    "--format=csv,noheader,nounits",
)
_GPU_TIMEOUT_S = 5.0
_MB = 1e6


class SystemMetrics:
    """Samples processors, memory, and the GPUs of this host (if its driver lists any) every `SAMPLE_EVERY_S`.

    All values are those of the whole host, other programs included, so that a slow run can be explained.
    """

    def __init__(self) -> None:
        self._due_at = time.monotonic() + SAMPLE_EVERY_S
        self._has_gpus = True
        # The first call starts the interval over which the next one averages.
        psutil.cpu_percent()

    def sample_if_due(self) -> dict[str, float]:
        """Return the metrics by name (percent, megabytes, watts) if a sample is due; otherwise nothing."""
        if time.monotonic() < self._due_at:
            return {}
        self._due_at = time.monotonic() + SAMPLE_EVERY_S
        memory = psutil.virtual_memory()
        metrics = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            **self._gpus(),
        }
        return {f"system/{name}": value for name, value in metrics.items()}

    def _gpus(self) -> dict[str, float]:
        if not self._has_gpus:
            return {}
        try:
            done = subprocess.run(
                _GPU_QUERY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            self._has_gpus = False
            return {}
        return gpu_metrics(done.stdout)


def gpu_metrics(table: str) -> dict[str, float]:
    """Return the metrics of all GPUs from the driver's table: utilization, used and total memory (MiB), power (W).

    Values that a GPU does not report, such as `[N/A]`, are left out.
    """
    metrics: dict[str, float] = {}
    for number, line in enumerate(table.strip().splitlines()):
        utilization, used, total, power = (_number(cell) for cell in line.split(","))
        values = {
            "utilization_percentage": utilization,
            "memory_usage_megabytes": None if used is None else used * 2**20 / _MB,
            "memory_usage_percentage": None if used is None or not total else 100 * used / total,
            "power_usage_watts": power,
        }
        metrics |= {f"gpu_{number}_{name}": value for name, value in values.items() if value is not None}
    return metrics


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
