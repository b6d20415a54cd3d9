"""The results of a job: an overview, and a page for each task."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from service.web.calls import RestDep
from service.web.page import PageRoute, render

router = APIRouter(prefix="/jobs/{job_id}/results", include_in_schema=False, route_class=PageRoute)
IMAGES = 12
"""Number of images that a page starts with; more are loaded below them."""


@router.get("")
async def get_results(job_id: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page with the numbers of all tasks, on all splits, slices and corruptions."""
    job, result = await asyncio.gather(rest.get(f"/v1/jobs/{job_id}"), rest.get(f"/v1/jobs/{job_id}/results"))
    return await render(request, "results.html", job=job, result=result)


@router.get("/{task}")
async def get_task_results(
    job_id: str,
    task: str,
    request: Request,
    rest: RestDep,
    split: Annotated[str | None, Query()] = None,
    outcome: Annotated[str, Query()] = "",
    label: Annotated[str, Query()] = "",
    predicted: Annotated[str, Query()] = "",
    threshold: Annotated[str, Query()] = "",
    order: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Return the page with everything about one task."""
    place = f"/v1/jobs/{job_id}/results"
    chosen = {"outcome": outcome, "label": label, "predicted": predicted, "threshold": threshold, "order": order}
    conditions = {name: value or None for name, value in chosen.items()}
    names = ("curves", "confusion", "errors", "calibration")
    job, result, scored, images, *analyses = await asyncio.gather(
        rest.get(f"/v1/jobs/{job_id}"),
        rest.get(place),
        rest.get(f"{place}/{task}", {"split": split}),
        rest.get_or_none(f"{place}/{task}/images", {**conditions, "cursor": cursor, "limit": IMAGES}),
        *(rest.get_or_none(f"{place}/{task}/{name}", {"split": split}) for name in names),
    )
    return await render(
        request,
        "task_results.html",
        job=job,
        result=result,
        task=task,
        split=scored["split"],
        entry=scored["result"],
        images=images,
        chosen=chosen,
        **dict(zip(names, analyses, strict=True)),
    )
