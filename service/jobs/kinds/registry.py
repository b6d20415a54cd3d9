"""All kinds of jobs, one row each. Torch-free."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from service.jobs.kinds.base import JobKind
from service.jobs.kinds.fit import FitKind

JOB_KINDS: dict[str, JobKind] = {kind.name: kind for kind in (FitKind(),)}
"""All kinds by name."""

if TYPE_CHECKING:
    JobKindName: TypeAlias = str
else:
    JobKindName = Literal[tuple(JOB_KINDS)]


def job_kind(name: str) -> JobKind:
    """Return the kind of a job; raises ValueError if this version does not know it."""
    if name not in JOB_KINDS:
        raise ValueError(
            f"jobs of the kind {name!r} are not known to this version, which knows {', '.join(JOB_KINDS)}; start the "
            "version that accepted the job, or a newer one"
        )
    return JOB_KINDS[name]
