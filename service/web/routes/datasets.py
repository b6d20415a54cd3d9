"""Data sets: their versions, and the result of the check of one."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from service.web.calls import RestDep
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SHOWN_CLASSES = 100
"""Number of classes of a task that the page of a version shows; REST returns more."""


@router.get("/datasets")
async def get_datasets(
    request: Request,
    rest: RestDep,
    status: Annotated[str, Query()] = "",
    name: Annotated[str, Query()] = "",
    cursor: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Return the page with the newest versions of all data sets, or with those of a filter."""
    page = await rest.get("/v1/datasets", {"status": status or None, "name": name or None, "cursor": cursor})
    return await render(
        request,
        "datasets.html",
        datasets=page["datasets"],
        next_cursor=page["next_cursor"],
        chosen={"status": status, "name": name},
    )


@router.get("/datasets/{name}/{version}")
async def get_dataset(name: str, version: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page of a version with the result of its check."""
    found = await rest.get(f"/v1/datasets/{name}/versions/{version}")
    others = await rest.get("/v1/datasets", {"name": found["name"]})
    return await render(request, "dataset.html", dataset=found, versions=others["datasets"], num_classes=SHOWN_CLASSES)
