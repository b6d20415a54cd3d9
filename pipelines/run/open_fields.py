"""Fields that the document leaves to a measurement; the run folder keeps their values. Torch-free."""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import RunMeasurement
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, resolved, validate_document

BUDGET_FIELDS = (
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "model.unfreeze",
    "model.schedule.warmup_steps",
)
"""Fields that a budget sets."""


def is_open(job: JobSpec) -> bool:
    """Return whether the document leaves values to a measurement."""
    return any(open_fields(job))


def open_fields(job: JobSpec) -> Iterator[str]:
    """Yield the dotted names of these fields."""
    if job.trainer.budget is not None:
        yield from BUDGET_FIELDS
    for name in auto_sources(job):
        yield batch_size_field(name)


def auto_sources(job: JobSpec) -> list[str]:
    """Return the names of the sources with `batch_size: auto`."""
    return [name for name, source in job.data.sources.items() if source.batch_size == "auto"]


def batch_size_field(source: str) -> str:
    """Return the dotted name of the batch size of a source."""
    return f"data.sources.{source}.batch_size"


def with_stored_values(job: JobSpec, run_dir: RunDir) -> JobSpec:
    """Return the document with the values that its run has stored, if it has any."""
    stored = RunMeasurement.read_if_valid(run_dir.measured)
    return job if stored is None else completed(job, stored.fields)


def completed(job: JobSpec, fields: Mapping[str, JsonValue]) -> JobSpec:
    """Return the document with those values, by dotted name, that it leaves open."""
    document, named = resolved(job), set(open_fields(job))
    for name, value in fields.items():
        document = apply_override(document, name, value) if name in named else document
    return validate_document(document)
