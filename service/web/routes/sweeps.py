"""Sweeps: the list, and one with its trials and the plot of their values."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from service.web.calls import RestDep
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/sweeps")
async def get_sweeps(request: Request, rest: RestDep, cursor: Annotated[str | None, Query()] = None) -> HTMLResponse:
    """Return the page with the newest sweeps."""
    page = await rest.get("/v1/sweeps", {"cursor": cursor})
    return await render(request, "sweeps.html", sweeps=page["sweeps"], next_cursor=page["next_cursor"])


@router.get("/sweeps/{sweep_id}")
async def get_sweep(sweep_id: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page of a sweep."""
    return await render(request, "sweep.html", sweep=await rest.get(f"/v1/sweeps/{sweep_id}"))
