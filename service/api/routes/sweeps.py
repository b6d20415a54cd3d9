"""Sweeps over HTTP: these routes translate requests and responses, `service.sweeps.use_cases` does the work."""

from threading import Lock
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from pipelines.evaluation.parallel_coordinates import draw_coordinates
from service.api.access import needs
from service.api.cursor import LINKED, PageCursor, link_next, read_cursor
from service.api.deps import PoolsDep, PrincipalDep
from service.api.entity_tags import tagged
from service.api.limits import JsonRoute
from service.api.routes.jobs import REPLAYED, IdempotencyKey, request_key
from service.api.sweep_views import plot_view, sweep_summary, sweep_view
from service.api.thread_pools import Work
from service.jobs.submission import JobSubmission
from service.rest.problems import problems
from service.rest.sweep_schemas import ParallelCoordinates, SweepPage, SweepRequest, SweepView
from service.scopes import Scope
from service.sweeps.use_cases import SweepDetails, Sweeps

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], route_class=JsonRoute)

_CURSOR = "sweeps"
_drawing = Lock()
"""Matplotlib is not safe for several threads."""
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "the URL of the sweep"}}


async def _sweeps(request: Request) -> Sweeps:
    return cast(Sweeps, request.app.state.sweeps)


SweepsDep = Annotated[Sweeps, Depends(_sweeps)]
SweepId = Annotated[str, Path(description="id of a sweep", max_length=32)]


@router.post(
    "",
    dependencies=[needs(Scope.JOBS_WRITE)],
    status_code=202,
    responses={
        202: {"description": "The sweep has started", "headers": {**_LOCATION, **REPLAYED}},
        **problems(503, 504),
    },
)
async def start_sweep(
    body: SweepRequest,
    response: Response,
    sweeps: SweepsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    idempotency_key: IdempotencyKey = None,
) -> SweepView:
    """Start a sweep: many trainings that differ in some fields of one document, to find the best values."""
    key = request_key(idempotency_key, {"sweep": body.model_dump(mode="json", exclude_unset=True)})
    earlier = None if key is None else await pools[Work.READS].run(sweeps.submitted, principal, key)
    if earlier is not None:
        return _accepted(response, earlier, is_new=False)
    resources = body.resources
    submission = JobSubmission(body.config, body.priority, resources.counts(), resources.timeout_s)
    # The check reads the disks of the data, and may ask the registry for names of models.
    new = await pools[Work.CHECKS].run(sweeps.check, principal, submission)
    details, is_new = await pools[Work.WRITES].run(sweeps.start, principal, new, key)
    return _accepted(response, details, is_new=is_new)


@router.get(
    "",
    dependencies=[needs(Scope.JOBS_READ)],
    responses=LINKED,
)
def list_sweeps(
    request: Request,
    response: Response,
    sweeps: SweepsDep,
    principal: PrincipalDep,
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="maximum number of sweeps of the page")] = 50,
) -> SweepPage:
    """List sweeps, newest first."""
    before_number = None if cursor is None else read_cursor(cursor, _CURSOR)
    found, has_more = sweeps.list_sweeps(principal, before_number, limit)
    next_cursor = link_next(request, response, found[-1].number, _CURSOR) if has_more else None
    return SweepPage(sweeps=[sweep_summary(sweep) for sweep in found], next_cursor=next_cursor)


@router.get(
    "/{sweep_id}",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=SweepView,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_sweep(sweep_id: SweepId, request: Request, sweeps: SweepsDep, principal: PrincipalDep) -> Response:
    """Return a sweep with its trials and the document of the best one."""
    return tagged(request, sweep_view(sweeps.view(principal, sweep_id)).model_dump_json().encode())


@router.get(
    "/{sweep_id}/plot",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=ParallelCoordinates,
    responses={
        200: {
            "description": "Numbers or a picture",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "Unchanged"},
        **problems(404),
    },
)
async def get_sweep_plot(
    sweep_id: SweepId,
    request: Request,
    sweeps: SweepsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    format: Annotated[Literal["json", "png"], Query(description="numbers, or a picture")] = "json",
) -> Response:
    """Return the parallel-coordinates plot of a sweep's complete trials."""
    details = await pools[Work.READS].run(sweeps.view, principal, sweep_id)
    if format == "json":
        return tagged(request, plot_view(details).model_dump_json().encode())
    return tagged(request, await pools[Work.FILES].run(_picture, details), "image/png")


@router.post(
    "/{sweep_id}/cancel",
    dependencies=[needs(Scope.JOBS_WRITE)],
    status_code=202,
    responses={200: {"model": SweepView, "description": "It was already cancelled"}, **problems(404, 409)},
)
def cancel_sweep(sweep_id: SweepId, response: Response, sweeps: SweepsDep, principal: PrincipalDep) -> SweepView:
    """Cancel a sweep: it becomes `cancelled` once the jobs of all its trials have ended."""
    details, is_new = sweeps.cancel(principal, sweep_id)
    if not is_new:
        response.status_code = 200
    return sweep_view(details)


@router.delete("/{sweep_id}", dependencies=[needs(Scope.JOBS_WRITE)], status_code=204, responses=problems(404, 409))
def delete_sweep(sweep_id: SweepId, sweeps: SweepsDep, principal: PrincipalDep) -> None:
    """Delete a sweep that has ended; the jobs of its trials are kept."""
    sweeps.delete(principal, sweep_id)


def _picture(details: SweepDetails) -> bytes:
    plot = plot_view(details).model_dump()
    with _drawing:
        return draw_coordinates(f"{details.sweep.name}: {details.spec.metric}", plot["axes"], plot["lines"])


def _accepted(response: Response, details: SweepDetails, *, is_new: bool) -> SweepView:
    response.headers["Location"] = f"{router.prefix}/{details.sweep.id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return sweep_view(details)
