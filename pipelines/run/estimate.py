"""`plan`: how long a job would take on this machine and whether it fits into memory, from a few measured steps."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipelines.base.clock import format_duration
from pipelines.base.cores import busy_warning
from pipelines.base.errors import ConfigError
from pipelines.base.memory import machine_bytes, peak_bytes
from pipelines.base.records import DatasetIndex
from pipelines.run.completion import Completion
from pipelines.run.open_fields import completed
from pipelines.run_folder.schemas import Costs, RunPrecision
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document
from pipelines.training.run_length import RunLength, run_seconds
from pipelines.training.trainer import accelerator_of, num_processes, processes_per_node

GIB = 2**30
ROOM = 0.9
"""The part of the memory that may be used before a job is reported not to fit."""


@dataclass(frozen=True)
class Estimate:
    """The time and memory of a job.

    Attributes:
        fits: False if a step ran out of memory, or left less than a tenth of it.
        device: cpu or gpu.
        batch_sizes: by source.
        num_epochs, num_batches: epochs, and batches of each on each rank.
        step_s: seconds per batch in the last epoch; None if it did not fit.
        validation_s: seconds of one validation.
        total_s: seconds from the start of training to the end of the run.
        memory_bytes: peak memory of a process: of the GPU, or resident.
        memory_limit_bytes: of the GPU, or of the machine.
        uncertain: what the numbers do not contain, or can change them.
        chosen: texts about values that the document leaves to a measurement.
    """

    fits: bool
    device: str
    batch_sizes: dict[str, int]
    num_processes: int
    num_epochs: int
    num_batches: int
    step_s: float | None
    validation_s: float | None
    total_s: float | None
    memory_bytes: int | None
    memory_limit_bytes: int
    uncertain: tuple[str, ...]
    chosen: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.batch_sizes.items())
        limit = f"{self.memory_limit_bytes / GIB:.1f} GiB of this {'GPU' if self.device == 'gpu' else 'machine'}"
        if self.total_s is None or self.memory_bytes is None or self.step_s is None or self.validation_s is None:
            lines = [f"does not fit: a step with batches of {sizes} needs more than the {limit}"]
        else:
            need = f"{self.memory_bytes / GIB:.1f} GiB for each of {self.num_processes} process(es), {limit}"
            lines = [
                f"time: about {format_duration(self.total_s)}: {self.num_epochs} epochs of {self.num_batches} batches "
                f"({sizes}), {self.step_s:.3f} s per batch, {self.validation_s:.1f} s per validation",
                f"memory: {'fits' if self.fits else 'hardly fits'}: {need}",
            ]
        return "\n".join([*self.chosen, *lines, *(f"uncertain: {reason}" for reason in self.uncertain)])


def estimate_job(
    job: JobSpec,
    document: Document,
    index: DatasetIndex,
    precision: RunPrecision,
    clock: Callable[[], float] = time.monotonic,
) -> Estimate:
    """Measure a few steps of a throwaway network, and return the estimate; nothing is written.

    Args:
        job: the validated document.
        document: the document as the user wrote it.
        index: its data.
        precision: of the run.
        clock: in seconds.

    Raises:
        ConfigError: a budget is too short.
    """
    busy = busy_warning()
    is_on_gpu = accelerator_of(job.trainer) == "gpu"
    if is_on_gpu:
        torch.cuda.reset_peak_memory_stats()
    limit = torch.cuda.mem_get_info()[1] if is_on_gpu else machine_bytes()
    completion = Completion(job, document, index, precision, clock)
    costs: Costs | None = None
    try:
        measured = completion.measure(lambda: 0.0)
        job = completed(job, measured.fields)
        costs = measured.costs or completion.costs()
    except torch.OutOfMemoryError:
        costs = None
    memory = None
    if costs is not None:
        memory = torch.cuda.max_memory_reserved() if is_on_gpu else peak_bytes()
    length = RunLength(job.trainer.max_epochs, completion.num_batches(), job.trainer.check_val_every_n_epoch)
    needed = 0 if memory is None else memory * (1 if is_on_gpu else processes_per_node(job.trainer))
    return Estimate(
        fits=memory is not None and needed <= ROOM * limit,
        device="gpu" if is_on_gpu else "cpu",
        batch_sizes={name: source.images_per_batch for name, source in job.data.sources.items()},
        num_processes=num_processes(job.trainer),
        num_epochs=length.num_epochs,
        num_batches=length.num_batches,
        step_s=None if costs is None else costs.step_s[completion.last_frozen_name()],
        validation_s=None if costs is None else costs.validation_s,
        total_s=None if costs is None else run_seconds(job.model, costs, length),
        memory_bytes=memory,
        memory_limit_bytes=limit,
        uncertain=tuple(_uncertain(job, busy)),
        chosen=tuple(completion.messages),
    )


def reason_not_to_measure(job: JobSpec) -> str | None:
    """Return why the job cannot be measured on this machine; None if it can."""
    try:
        num_processes(job.trainer)
    except ConfigError as error:
        return f"time and memory are not estimated, because the job is not for this machine: {error}"
    return None


def _uncertain(job: JobSpec, busy: str | None) -> Iterator[str]:
    yield "a few steps were measured; imports, the data check and MLflow come on top"
    yield "an untrained network finds few objects, so that validations of a detector may take longer later"
    if busy:
        yield busy
    if num_processes(job.trainer) > 1:
        yield "one process was measured, without the communication of several"
    if job.trainer.budget is not None:
        yield "the number of epochs follows trainer.budget, and is corrected during the run"
    if job.trainer.early_stopping is not None:
        yield "trainer.early_stopping may end the run earlier"
    if job.trainer.compile:
        yield "trainer.compile was not measured"
    if job.data.multi_scale is not None:
        yield "images of several sizes (data.multi_scale) were measured as they came; larger batches need more memory"
    if job.data.cache == "ram":
        yield "images were read from files, and the decoded images of data.cache: ram need memory of their own"
    if job.data.num_workers:
        yield f"memory of {job.data.num_workers} data workers is not included"
