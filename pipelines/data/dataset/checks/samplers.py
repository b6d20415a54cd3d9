"""Checks of the samplers that draw identities. Torch-free."""

from collections.abc import Sequence

from pipelines.base.findings import Finding
from pipelines.base.records import ImageRecord
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.image_labels import identities_of
from pipelines.spec.data import PKSpec
from pipelines.spec.job import JobSpec


def check_samplers(job: JobSpec, train: Sequence[ImageRecord], report: DataReport) -> None:
    """Report sources that draw identities but have too few of them, or have images without identity."""
    for name, source in sorted(job.data.sources.items()):
        if not isinstance(source.sampler, PKSpec):
            continue
        task, p = source.sampler.task, source.sampler.p
        shown = [identities_of(record, task) for record in train if record.source == name]
        num_identities = len(set().union(*shown))
        if shown and num_identities < p:
            sampler = f"data.sources.{name}.sampler"
            fewer = f"lower {sampler}.p (and batch_size = p * k), or set it to kind: shuffle"
            message = (
                f"{name!r} has {num_identities} identities of the task {task!r} in train, but its sampler draws p = "
                f"{p} different ones per batch: {fewer if num_identities > 1 else f'set {sampler} to kind: shuffle'}"
            )
            report.findings.append(Finding("too_few_identities", message, name, "train"))
        elif num_not_drawn := sum(not identities for identities in shown):
            message = (
                f"{num_not_drawn} of {len(shown)} train images of {name!r} have no identity of the task {task!r}; "
                "its sampler never draws them, not even for other tasks: list them in a separate source"
            )
            report.findings.append(Finding("image_not_drawn", message, name, "train"))
