"""Comparison of the results of several jobs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from pipelines.spec.comparison import RunComparison
from service.api.access import needs
from service.api.comparisons import MAX_JOBS
from service.api.deps import ComparisonsDep, JobsDep, PoolsDep, PrincipalDep, SettingsDep
from service.api.thread_pools import FileRoute, Work
from service.rest.problems import Problem, problems
from service.scopes import Scope

router = APIRouter(prefix="/v1/compare", tags=["results"], route_class=FileRoute)


@router.get(
    "",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=RunComparison,
    responses=problems(404, 413, 422, 503, 504),
)
async def compare_jobs(
    request: Request,
    jobs: Annotated[str, Query(max_length=500, description="ids of two to ten jobs, separated by commas")],
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
    job_ids = [job_id.strip() for job_id in jobs.split(",") if job_id.strip()]
    if not 2 <= len(job_ids) <= MAX_JOBS:
        raise Problem(422, "Number of jobs", f"got {len(job_ids)} ids in `jobs`; send 2 to {MAX_JOBS}")
    found = []
    for job_id in job_ids:
        job = await pools[Work.READS].run(store.find, principal, job_id[:100])
        if not await pools[Work.FILES].run(RunDir.of(settings.run_dir(job.id)).result.is_file):
            raise Problem(404, "No results", f"job {job.id} is {job.status} and has no results")
        found.append(job.id)
    return Response(await comparisons.run(request, found, task), media_type="application/json")
