"""Comparison of the results of several jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipelines.base.errors import ConfigError
from pipelines.run_folder.layout import RunDir
from pipelines.spec.comparison import RunComparison
from pipelines.spec.load import read_yaml
from service.api.access import needs
from service.api.comparisons import MAX_JOBS
from service.api.deps import ComparisonsDep, JobsDep, PoolsDep, PrincipalDep, SettingsDep
from service.api.document_differences import differences
from service.api.thread_pools import FileRoute, Work
from service.rest.comparison_schemas import ComparedField, DocumentComparison
from service.rest.problems import Problem, problems
from service.scopes import Scope

router = APIRouter(prefix="/v1/compare", tags=["results"], route_class=FileRoute)

ComparedJobs = Annotated[str, Query(max_length=500, description="ids of two to ten jobs, separated by commas")]


@router.get(
    "",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=RunComparison,
    responses=problems(404, 413, 422, 503, 504),
)
async def compare_jobs(
    request: Request,
    jobs: ComparedJobs,
    store: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    pools: PoolsDep,
    comparisons: ComparisonsDep,
    task: Annotated[list[str], Query(description="compare only this task; repeat the parameter for several")] = [],  # noqa: B006
) -> Response:
    """Return the numbers of jobs side by side, with 95 % intervals of their differences to the first job.

    The jobs must have been scored on the same images. The intervals are those of a paired bootstrap over the images.
    """
    found = []
    for job_id in _ids(jobs):
        job = await pools[Work.READS].run(store.find, principal, job_id[:100])
        if not await pools[Work.FILES].run(RunDir.of(settings.run_dir(job.id)).result.is_file):
            raise Problem(404, "No results", f"job {job.id} is {job.status} and has no results")
        found.append(job.id)
    return Response(await comparisons.run(request, found, task), media_type="application/json")


@router.get("/documents", dependencies=[needs(Scope.JOBS_READ)], responses=problems(404, 422))
def compare_documents(
    jobs: ComparedJobs, store: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> DocumentComparison:
    """Return the fields of the documents of jobs that differ, with all defaults if every job has started."""
    found = [store.view(principal, job_id[:100]) for job_id in _ids(jobs)]
    resolved = [_resolved(RunDir.of(settings.run_dir(details.job.id))) for details in found]
    are_resolved = None not in resolved
    documents = resolved if are_resolved else [details.config for details in found]
    return DocumentComparison(
        jobs=[details.job.id for details in found],
        are_resolved=are_resolved,
        fields=[ComparedField(field=field, values=values) for field, values in differences(documents)],
    )


def _ids(jobs: str) -> list[str]:
    job_ids = [job_id.strip() for job_id in jobs.split(",") if job_id.strip()]
    if not 2 <= len(job_ids) <= MAX_JOBS:
        raise Problem(422, "Number of jobs", f"got {len(job_ids)} ids in `jobs`; send 2 to {MAX_JOBS}")
    return job_ids


def _resolved(run_dir: RunDir) -> Any:
    """Return the document with all defaults that an attempt has written; None before the first one."""
    try:
        return read_yaml(run_dir.config_yaml.read_text("utf-8"), run_dir.config_yaml.name)
    except (OSError, ConfigError):
        return None
