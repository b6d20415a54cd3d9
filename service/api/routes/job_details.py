"""Details of one job that people watch: its curves, and its complete document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from service.api.access import needs
from service.api.curve_cache import CurveCache
from service.api.curves import MAX_POINTS
from service.api.deps import JobId, JobsDep, PoolsDep, PrincipalDep
from service.api.entity_tags import tagged
from service.api.thread_pools import FileRoute, Work
from service.jobs.complete_document import complete_document
from service.jobs.kinds.registry import JOB_KINDS
from service.rest.job_detail_schemas import CurvesOfJob, DocumentOfJob
from service.rest.problems import problems
from service.scopes import Scope


@asynccontextmanager
async def _cache_of(app: FastAPI) -> AsyncIterator[None]:
    app.state.curves = CurveCache(app.state.store, app.state.pools[Work.READS])
    yield


router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"], route_class=FileRoute, lifespan=_cache_of)


@router.get(
    "/curves",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=CurvesOfJob,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
async def get_training_curves(
    job_id: JobId,
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    max_points: Annotated[int, Query(ge=4, le=MAX_POINTS, description="maximum number of points of a curve")] = 500,
    name: Annotated[list[str], Query(max_length=50, description="only these curves; by default all")] = [],  # noqa: B006
) -> Response:
    """Return losses, metrics and learning rate of a job by step, thinned: extreme values are kept, undefined ones not.

    If an attempt repeats steps of an earlier one, only its points are returned.
    """
    job = await pools[Work.READS].run(jobs.find, principal, job_id)
    cache: CurveCache = request.app.state.curves
    return tagged(request, await cache.read(job.id, max_points, name))


@router.get(
    "/document",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=DocumentOfJob,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_job_document(job_id: JobId, request: Request, jobs: JobsDep, principal: PrincipalDep) -> Response:
    """Return the complete document of a job, and which of its fields differ from the defaults."""
    details = jobs.view(principal, job_id)
    kind = JOB_KINDS.get(details.job.kind)
    if kind is None:
        answer = DocumentOfJob(document=details.config, differs=None)
    else:
        document, differs = complete_document(kind.document, details.config, RunDir.of(details.run_dir))
        answer = DocumentOfJob(document=document, differs=differs)
    return tagged(request, answer.model_dump_json().encode())
