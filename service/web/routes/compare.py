"""Jobs side by side: numbers with the intervals of their differences, and the fields of their documents that differ."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import HTMLResponse

from service.states import JobStatus
from service.web.calls import RestCalls, RestDep, RestProblem
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)

JobId = Annotated[str, Field(pattern="^[^/,]+$", max_length=32)]
"""Id of a job as a part of a path, and of a list."""
MOST_JOBS = 5
"""Number of columns that still fit a page; REST compares more."""
SHOWN_CLASSES = 100
"""Number of classes of a task that the page shows; REST returns all."""


@router.get("/compare")
async def compare_jobs(
    request: Request,
    rest: RestDep,
    jobs: Annotated[list[JobId], Query(max_length=100)] = [],  # noqa: B006
    are_computed: Annotated[bool, Query(alias="numbers")] = False,
) -> HTMLResponse:
    """Return the page that compares chosen jobs. The browser requests it again with `numbers`, which take seconds."""
    finished = await rest.get("/v1/jobs", {"status": JobStatus.SUCCEEDED, "kind": "fit", "limit": 50})
    chosen: list[Any] = []
    documents = numbers = problem = None
    if 2 <= len(jobs) <= MOST_JOBS:
        ids = ",".join(jobs)
        *chosen, documents = await asyncio.gather(
            *(rest.get(f"/v1/jobs/{job_id}") for job_id in jobs), rest.get("/v1/compare/documents", {"jobs": ids})
        )
        if are_computed:
            numbers, problem = await _numbers(rest, ids)
    return await render(
        request,
        "compare.html",
        finished=finished["jobs"],
        ids=jobs,
        chosen=chosen,
        documents=documents,
        numbers=numbers,
        problem=problem,
        most_jobs=MOST_JOBS,
        num_classes=SHOWN_CLASSES,
    )


async def _numbers(rest: RestCalls, ids: str) -> tuple[Any, Any]:
    """Return the comparison, or the problem why there is none."""
    try:
        return await rest.get("/v1/compare", {"jobs": ids}), None
    except RestProblem as error:
        return None, error.problem
