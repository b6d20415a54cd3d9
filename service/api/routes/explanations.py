"""Explanations of single predictions of registered models."""

from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Request, Response

from pipelines.spec.explanation import ExplanationMethod, ExplanationRequest, PredictionNumber, Steps
from service.api.access import needs
from service.api.content_negotiation import preferred
from service.api.image_upload import REQUEST_BODY, UploadMemory, read_image_fields
from service.api.predictor_images import forwarded
from service.api.predictor_link import PredictorLink
from service.api.registry_route import ChosenAlias, ChosenVersion, ModelName, RegistryRoute, chosen_model
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.explanation_schemas import ExplanationView
from service.rest.model_schemas import RUNTIME_HEADER, VERSION_HEADER, WARNINGS_HEADER
from service.rest.problems import Problem, problems
from service.rest.schemas import ProblemField
from service.scopes import Scope
from service.settings import Settings

JSON, PNG = "application/json", "image/png"

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=RegistryRoute)


@router.post(
    "/{name}/explain",
    dependencies=[needs(Scope.MODELS_READ)],
    response_model=ExplanationView,
    openapi_extra={"requestBody": REQUEST_BODY},
    responses={
        200: {
            "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                VERSION_HEADER: {"schema": {"type": "integer"}, "description": "the version that was used"},
                RUNTIME_HEADER: {"schema": {"type": "string"}, "description": "always torch"},
                WARNINGS_HEADER: {
                    "schema": {"type": "string"},
                    "description": "of a picture: the field `warnings` of the JSON, if any, as a JSON list",
                },
            },
        },
        **problems(404, 406, 408, 413, 415, 422, 503),
    },
)
async def explain(
    name: ModelName,
    request: Request,
    alias: ChosenAlias = None,
    version: ChosenVersion = None,
    task: Annotated[
        str | None, Query(max_length=80, description="task of the prediction; by default the only one")
    ] = None,
    prediction: Annotated[
        PredictionNumber | None,
        Query(
            description="number in the answer of `predict` without a threshold, counted from 0; by default the first "
            "one, or the first one of `class`"
        ),
    ] = None,
    label: Annotated[
        str | None,
        Query(
            alias="class", max_length=1000, description="class whose score is explained; by default the predicted one"
        ),
    ] = None,
    method: Annotated[
        ExplanationMethod | None,
        Query(
            description="by default `gradcam`, or `occlusion` for the similarity of an image to itself, which has no "
            "gradient"
        ),
    ] = None,
    steps: Annotated[
        Steps | None,
        Query(description="window positions along the longer side, or points of the integral; by default 12 and 32"),
    ] = None,
    accept: Annotated[str | None, Header(description=f"`{JSON}` (default) or `{PNG}`")] = None,
) -> Response:
    """Show which parts of an image a prediction depends on: the map with its facts as JSON, or over the image as PNG.

    A second image is the one that an embedding is compared with; by default the image is compared with itself.
    """
    model = chosen_model(name, alias, version)
    chosen = preferred(accept, [JSON, PNG])
    if chosen is None:
        raise Problem(406, "Not acceptable", f"Accept: got {accept!r}; available: {JSON}, {PNG}")
    settings, link = cast(Settings, request.app.state.settings), cast(PredictorLink, request.app.state.predictor)
    wanted = ExplanationRequest(task=task, prediction=prediction, label=label, method=method, steps=steps)
    query = {**model, "request": wanted.model_dump_json(), **({"draw": "1"} if chosen == PNG else {})}
    await link.find(model)
    images = await read_image_fields(request, settings, cast(UploadMemory, request.app.state.upload_memory))
    if len(images) > 2:
        detail = f"got {len(images)} images; send the image, and for an embedding the one that it is compared with"
        raise Problem(422, "Too many images", detail, [ProblemField(pointer="/image", detail=detail)])
    with link.admitted(len(images)):
        try:
            return forwarded(await unless_gone(request, link.explain(query, images)))
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
