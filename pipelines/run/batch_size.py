"""`batch_size: auto`: the number of images per batch that suits this machine."""

import time
from collections.abc import Callable
from typing import Any

import torch

from pipelines.base.records import DatasetIndex
from pipelines.run.open_fields import auto_sources
from pipelines.run.throwaway import Throwaway
from pipelines.run_folder.schemas import RunPrecision
from pipelines.spec.job import JobSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.step_times import StepTimes
from pipelines.training.trainer import num_processes

SMALLEST, LARGEST = 4, 256
"""Batches of fewer images have noisy gradients and statistics; they are tried only if memory is too small."""

MIN_STEPS = 4
"""An epoch has at least this number of steps."""

MIN_GAIN = 1.1
"""A batch of twice the size has to train at least this factor faster, since it also halves the number of steps."""

MAX_MEMORY_SHARE = 0.9
"""Part of the device's memory that a measured step may have used; other batches may need more."""


def choose_batch_size(throughput: Callable[[int], float | None], largest: int) -> int:
    """Return the knee of the throughput: the size after which doubling gains less than `MIN_GAIN`.

    Args:
        throughput: returns the images per second of a batch size; None if it does not fit into memory.
        largest: the largest size to try.
    """
    size = max(1, min(SMALLEST, largest))
    speed = throughput(size)
    while speed is None and size > 1:
        size //= 2
        speed = throughput(size)
        if speed is not None:
            # Twice the size did not fit.
            return size
    while speed is not None and 2 * size <= largest:
        doubled = throughput(2 * size)
        if doubled is None or doubled < MIN_GAIN * speed:
            break
        size, speed = 2 * size, doubled
    return size


def measured_batch_size(
    job: JobSpec, index: DatasetIndex, precision: RunPrecision, clock: Callable[[], float] = time.monotonic
) -> tuple[int, str]:
    """Return the batch size for all sources with `batch_size: auto`, and a text about what was measured.

    Steps of a throwaway network are measured, with the optimizer's state, the moving average if the document has one,
    and the largest size of images of `multi_scale`.
    """
    rows: list[str] = []

    def throughput(size: int) -> float | None:
        job_of_size = with_batch_size(job, size)
        assert job.model.unfreeze is not None
        frozen = frozen_parts(job.model, max(job.model.unfreeze))
        times = StepTimes([frozen], clock=clock)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            Throwaway(job_of_size, index, precision, clock).train([times])
        except torch.OutOfMemoryError:
            rows.append(f"{size} does not fit")
            return None
        if torch.cuda.is_available():
            peak, total = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
            if peak > MAX_MEMORY_SHARE * total:
                rows.append(f"{size} leaves no room in memory")
                return None
        rows.append(f"{size}: {times.images_per_s[frozen]:.1f} images/s")
        return times.images_per_s[frozen]

    chosen = choose_batch_size(throughput, _largest(job, index))
    return chosen, f"batch size {chosen} ({', '.join(rows)})"


def _largest(job: JobSpec, index: DatasetIndex) -> int:
    labeled = [r.source for r in index.records.get("train", []) if not r.labels.keys().isdisjoint(job.model.tasks)]
    numbers = [labeled.count(name) for name in auto_sources(job)]
    images = min((number for number in numbers if number), default=1) // num_processes(job.trainer)
    return min(LARGEST, max(1, images // MIN_STEPS))


def with_batch_size(job: JobSpec, size: int) -> JobSpec:
    """Return the job with a batch size for the sources with `auto`, and with the largest images of `multi_scale`."""
    sources = dict(job.data.sources)
    for name in auto_sources(job):
        sources[name] = sources[name].model_copy(update={"batch_size": size})
    update: dict[str, Any] = {"sources": sources}
    if job.data.multi_scale is not None:
        largest = job.data.multi_scale[1] // 32 * 32
        update["multi_scale"] = (largest, largest)
    return job.model_copy(update={"data": job.data.model_copy(update=update)})
