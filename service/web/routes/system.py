"""The state of the server, and for administrators keys and the audit log."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from service.scopes import MEANINGS
from service.web.calls import RestCalls, RestDep, RestProblem
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/system")
async def get_system(request: Request, rest: RestDep, cursor: Annotated[str | None, Query()] = None) -> HTMLResponse:
    """Return the page with the readiness of the server, the resources in use, keys, and the audit log."""
    readiness, capabilities, system, keys, audit = await asyncio.gather(
        rest.get("/readyz", accepted=(503,)),
        rest.get("/v1/capabilities"),
        _permitted(rest, "/v1/system"),
        _permitted(rest, "/v1/keys"),
        _permitted(rest, "/v1/audit", cursor=cursor, limit=50),
    )
    return await render(
        request, "system.html", readiness=readiness, capabilities=capabilities, system=system, keys=keys, audit=audit,
        scopes=MEANINGS,
    )  # fmt: skip


async def _permitted(rest: RestCalls, path: str, **query: Any) -> Any:
    """Return a resource; None if the key of the reader does not permit to read it."""
    try:
        return await rest.get(path, query)
    except RestProblem as error:
        if error.problem.status != 403:
            raise
        return None
