"""All kinds of jobs, one row each. Torch-free."""

from typing import TYPE_CHECKING, Literal, TypeAlias, Union

from pydantic import BaseModel

from service.jobs.kinds.base import JobKind
from service.jobs.kinds.batch_prediction import BatchPredictionKind
from service.jobs.kinds.export import ExportKind
from service.jobs.kinds.fit import FitKind

KINDS: tuple[JobKind, ...] = (
    FitKind(),
    BatchPredictionKind(),
    ExportKind(),
)

JOB_KINDS: dict[str, JobKind] = {kind.name: kind for kind in KINDS}
"""All kinds by name."""

if TYPE_CHECKING:
    JobKindName: TypeAlias = str
    JobResult: TypeAlias = BaseModel
else:
    JobKindName = Literal[tuple(JOB_KINDS)]
    JobResult = Union[tuple(kind.result for kind in JOB_KINDS.values())]  # noqa: UP007


def job_kind(name: str) -> JobKind:
    """Return the kind of a job; raises ValueError if this version does not know it."""
    if name not in JOB_KINDS:
        raise ValueError(
            f"jobs of the kind {name!r} are not known to this version, which knows {', '.join(JOB_KINDS)}; start the "
            "version that accepted the job, or a newer one"
        )
    return JOB_KINDS[name]
