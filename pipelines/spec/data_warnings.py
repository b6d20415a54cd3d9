"""Warnings about data that is probably too small for the settings of a document. Torch-free.

They are printed when a job is checked and when a run starts.
"""

import math
from collections import Counter
from collections.abc import Iterator

from pipelines.base.quantities import quantity
from pipelines.base.records import DatasetIndex
from pipelines.spec.job import JobSpec

FEW_STEPS = 3
"""Optimizer steps per epoch, below which losses and schedules are coarse."""
FEW_IMAGES = 20
"""Labeled training images, below which a network memorizes them."""


def data_warnings(job: JobSpec, index: DatasetIndex, num_processes: int = 1) -> Iterator[str]:
    """Yield a warning for each source whose batch is larger than its training images, and for few images or steps.

    Args:
        job: the document.
        index: its data.
        num_processes: number of training processes, each with batches of its own.
    """
    records = index.records.get("train", [])
    labeled = Counter(r.source for r in records if not r.labels.keys().isdisjoint(job.model.tasks))
    for name, number in sorted(labeled.items()):
        source = job.data.sources[name]
        size = source.images_per_batch
        is_chosen = source.batch_size != "auto" and source.sampler.kind != "pk"
        if is_chosen and size * num_processes > number:
            processes = f" for each of {num_processes} processes" if num_processes > 1 else ""
            yield (
                f"data.sources.{name}.batch_size: got {size}{processes}, but the training split has only "
                f"{quantity(number, 'labeled image')}, so that each epoch is a single step; write "
                f"{max(1, number // (8 * num_processes))}, for example"
            )
    total = sum(labeled.values())
    if 0 < total < FEW_IMAGES:
        yield (
            f"data.sources: the training split has only {quantity(total, 'labeled image')}; the network "
            "memorizes them, which scores on val and test will show; add images"
        )
    accumulated = job.trainer.accumulate_grad_batches
    batches = sum(
        math.ceil(n / (job.data.sources[name].images_per_batch * num_processes)) for name, n in labeled.items()
    )
    steps = math.ceil(batches / accumulated)
    is_open = any(source.batch_size == "auto" for source in job.data.sources.values())
    if total >= FEW_IMAGES and 1 < steps < FEW_STEPS and not is_open:
        yield (
            f"data.sources.*.batch_size: an epoch has only {steps} optimizer steps ({total} images); lower the batch "
            "size, or trainer.accumulate_grad_batches, for more steps"
        )
