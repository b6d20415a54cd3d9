"""Registered models: their versions, aliases, origin, exports, and predictions for an image of the reader."""

import asyncio
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import HTMLResponse

from service.rest.explanation_schemas import ExplanationView
from service.rest.export_schemas import VersionExportRequest
from service.web.calls import RestCalls, RestDep
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
ComparedNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]
CHAMPION = "champion"
"""The alias that predicts by default; `POST /v1/models/{name}/predict` has it in its description."""
PROMOTIONS = 50
"""Number of moves of aliases on the page of a model."""
FORMATS, PRECISIONS = (get_args(VersionExportRequest.model_fields[field].annotation) for field in ("to", "precision"))
"""Choices of an export; REST says which combinations are possible."""
METHODS = get_args(ExplanationView.model_fields["method"].annotation)
"""Methods of explanations."""


@router.get("/models")
async def get_models(request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page with all models."""
    answer = await rest.get("/v1/models")
    return await render(request, "models.html", models=answer["models"])


@router.get("/models/{name}")
async def get_model(name: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page of a model with its versions and the history of its aliases."""
    model, history = await asyncio.gather(rest.get(f"/v1/models/{name}"), rest.get(f"/v1/models/{name}/promotions"))
    tags = await asyncio.gather(*(_tag(rest, name, alias) for alias in model["aliases"]))
    return await render(
        request,
        "model.html",
        model=model,
        tags=dict(zip(model["aliases"], tags, strict=True)),
        champion=CHAMPION,
        promotions=history["promotions"][:PROMOTIONS],
        num_promotions=len(history["promotions"]),
    )


@router.get("/models/{name}/comparison")
async def compare_versions(
    name: str, request: Request, rest: RestDep, first: ComparedNumber, second: ComparedNumber
) -> HTMLResponse:
    """Return the page with two versions side by side."""
    compared = await rest.get(f"/v1/models/{name}/comparison", {"first": first, "second": second})
    return await render(request, "model_comparison.html", compared=compared)


@router.get("/models/{name}/{version}")
async def get_version(name: str, version: Number, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page of a version, with a place to try it."""
    path = f"/v1/models/{name}/versions/{version}"
    found, exports, tag = await asyncio.gather(rest.get(path), rest.get(f"{path}/exports"), _tag(rest, name, CHAMPION))
    return await render(
        request, "model_version.html", version=found, exports=exports["exports"], champion=CHAMPION, champion_tag=tag,
        formats=FORMATS, precisions=PRECISIONS, methods=METHODS,
    )  # fmt: skip


async def _tag(rest: RestCalls, name: str, alias: str) -> dict[str, Any]:
    """Return the header that a move of an alias needs: no other move may have happened since this page was read."""
    answer = await rest.send_or_none("GET", f"/v1/models/{name}/aliases/{alias}")
    return {"If-None-Match": "*"} if answer is None else {"If-Match": answer.headers["etag"]}
