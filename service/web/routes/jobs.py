"""The list of jobs."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from service.states import JobStatus
from service.web.calls import RestCalls, RestDep
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)
EXPLAINED_JOBS = 10
"""Number of queued jobs of a page for which it says why they wait."""
DRAWN_JOBS = 20
"""Number of running jobs of a page for which it draws the loss."""
LOSS, LOSS_POINTS = "train/sum", 60


@router.get("/")
async def get_jobs(
    request: Request,
    rest: RestDep,
    status: Annotated[list[str], Query()] = [],  # noqa: B006
    kind: Annotated[list[str], Query()] = [],  # noqa: B006
    name: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Return the page with the newest jobs, or with those of a filter."""
    status, kind = [one for one in status if one], [one for one in kind if one]
    query = {"status": status, "kind": kind, "name": name or None, "cursor": cursor, "limit": 50}
    page, server = await asyncio.gather(rest.get("/v1/jobs", query), rest.get("/v1/capabilities"))
    queued = [job["id"] for job in page["jobs"] if job["status"] == JobStatus.QUEUED][-EXPLAINED_JOBS:]
    reasons = dict(zip(queued, await asyncio.gather(*(_reason(rest, job_id) for job_id in queued)), strict=True))
    return await render(
        request,
        "jobs.html",
        jobs=page["jobs"],
        reasons=reasons,
        losses=await _losses(rest, page["jobs"]),
        next_cursor=page["next_cursor"],
        chosen={"status": status, "kind": kind, "name": name},
        statuses=list(JobStatus),
        kinds=server["job_kinds"],
    )


async def _reason(rest: RestCalls, job_id: str) -> Any:
    """Return why a queued job waits; None if it has left the queue or was deleted meanwhile."""
    job = await rest.get_or_none(f"/v1/jobs/{job_id}")
    return job and job["waits_for"]


async def _losses(rest: RestCalls, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the curve of the sum of the losses of each running job that has one."""
    running = [job["id"] for job in jobs if job["status"] == JobStatus.RUNNING][:DRAWN_JOBS]
    found = await asyncio.gather(
        *(
            rest.get_or_none(f"/v1/jobs/{job_id}/curves", {"name": LOSS, "max_points": LOSS_POINTS})
            for job_id in running
        )
    )
    return {
        job_id: answer["curves"][LOSS]
        for job_id, answer in zip(running, found, strict=True)
        if answer is not None and LOSS in answer["curves"]
    }
