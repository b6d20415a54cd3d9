"""Registered models: versions, aliases and predictions."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response

from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.promotion import AliasMoved, move_alias
from pipelines.tracking.registry import Registry
from service.api.access import needs
from service.api.audited import audited
from service.api.deps import PrincipalDep, StoreDep
from service.api.image_upload import REQUEST_BODY, UploadMemory, read_image_fields
from service.api.metrics import Metrics
from service.api.model_access import ModelOwners
from service.api.predictor_images import forwarded, predict_images
from service.api.predictor_link import PredictorLink
from service.api.registry_route import (
    ChosenAlias,
    ChosenVersion,
    ModelName,
    RegistryDep,
    RegistryRoute,
    chosen_model,
    require_aliases,
)
from service.api.thread_pools import Work
from service.api.views import model_version_view
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.model_schemas import (
    RUNTIME_HEADER,
    VERSION_HEADER,
    WARNINGS_HEADER,
    AliasRequest,
    AliasView,
    ModelList,
    ModelSummary,
    ModelView,
    PredictionList,
    PredictionView,
    ThresholdText,
)
from service.rest.problems import Problem, problems
from service.rest.schemas import ProblemField
from service.scopes import Scope
from service.settings import Settings

_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.ASCII | re.IGNORECASE)
"""Names that MLflow reserves."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    app.state.registry = registry = Registry(find_store(settings.root))
    app.state.model_owners = ModelOwners(registry, app.state.pools[Work.REGISTRY], settings.key_cache_s)
    app.state.predictor = link = PredictorLink(settings)
    app.state.metrics.predictions.set_function(lambda: link.num_admitted)
    app.state.metrics.predictions_limit.set(settings.predict_queue_size)
    app.state.upload_memory = UploadMemory(settings.image_upload_memory_bytes)
    try:
        yield
    finally:
        await link.close()


AliasName = Annotated[str, Path(description="name of an alias")]
IfMatch = Annotated[str | None, Header(description="the `ETag` of the alias, or `*` for any version")]
IfNoneMatch = Annotated[str | None, Header(description="`*`: only if the alias does not exist")]
router = APIRouter(prefix="/v1/models", tags=["models"], route_class=RegistryRoute, lifespan=_lifespan)


@router.get("", dependencies=[needs(Scope.MODELS_READ)], responses=problems(503))
def list_models(registry: RegistryDep, principal: PrincipalDep) -> ModelList:
    """List all registered models, sorted by name."""
    models = [
        ModelSummary(name=model.name, aliases=dict(model.aliases), latest_version=model.latest_version)
        for model in registry.models()
        if principal.sees(model.tenant)
    ]
    return ModelList(models=models)


@router.get("/{name}", dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 503))
def get_model(name: ModelName, registry: RegistryDep, store: StoreDep) -> ModelView:
    """Return a model and its versions with their origin and metrics."""
    aliases = require_aliases(registry, name)
    versions = registry.versions(name)
    return ModelView(
        name=name,
        aliases=aliases,
        latest_version=versions[0].version if versions else None,
        versions=[
            model_version_view(version, store.job_of_run(version.run_id) if version.run_id else None)
            for version in versions
        ],
    )


@router.get("/{name}/aliases/{alias}", dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 503))
def get_alias(name: ModelName, alias: AliasName, registry: RegistryDep, response: Response) -> AliasView:
    """Return the version an alias points to; moving the alias requires the `ETag` of this response."""
    version = require_aliases(registry, name).get(alias)
    if version is None:
        raise _alias_not_found(name, alias)
    response.headers["ETag"] = _etag(version)
    return AliasView(name=name, alias=alias, version=version)


@router.put(
    "/{name}/aliases/{alias}",
    dependencies=[needs(Scope.MODELS_PROMOTE), audited("model.promote")],
    responses={201: {"model": AliasView}, **problems(404, 412, 428, 503)},
)
def put_alias(
    name: ModelName,
    alias: AliasName,
    body: AliasRequest,
    registry: RegistryDep,
    principal: PrincipalDep,
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> AliasView:
    """Point an alias to a version. A move requires `If-Match` with its ETag, so that no move is lost."""
    _check_alias(alias)
    present = require_aliases(registry, name).get(alias)
    _check_conditions(alias, present, if_match, if_none_match, is_needed=present is not None)
    if registry.version(name, body.version) is None:
        detail = f"got {body.version}, but {name!r} has no such version; GET /v1/models/{name} lists all"
        raise Problem(422, "Version not found", detail, [ProblemField(pointer="/version", detail=detail)])
    _move(registry, name, alias, body.version, expected=present, by=principal.name, reason=body.reason)
    response.status_code = 201 if present is None else 200
    response.headers["ETag"] = _etag(body.version)
    return AliasView(name=name, alias=alias, version=body.version)


@router.delete(
    "/{name}/aliases/{alias}",
    dependencies=[needs(Scope.MODELS_PROMOTE), audited("model.demote")],
    status_code=204,
    responses=problems(404, 412, 428, 503),
)
def delete_alias(
    name: ModelName,
    alias: AliasName,
    registry: RegistryDep,
    principal: PrincipalDep,
    reason: Annotated[str, Query(max_length=1000, description="why, for the history of the model")] = "",
    if_match: IfMatch = None,
) -> None:
    """Remove an alias. This requires `If-Match` with its ETag."""
    present = require_aliases(registry, name).get(alias)
    if present is None:
        raise _alias_not_found(name, alias)
    _check_conditions(alias, present, if_match, None, is_needed=True)
    _move(registry, name, alias, None, expected=present, by=principal.name, reason=reason)


@router.post(
    "/{name}/predict",
    dependencies=[needs(Scope.MODELS_READ)],
    response_model=PredictionView | PredictionList,
    response_model_exclude_unset=True,
    openapi_extra={"requestBody": REQUEST_BODY},
    responses={
        200: {
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                VERSION_HEADER: {"schema": {"type": "integer"}, "description": "the version that was used"},
                RUNTIME_HEADER: {
                    "schema": {"type": "string"},
                    "description": "what computed it, such as openvino-int8",
                },
                WARNINGS_HEADER: {
                    "schema": {"type": "string"},
                    "description": "with `draw=true`: the field `warnings` of the prediction, if any, as a JSON list",
                },
            },
        },
        **problems(404, 408, 413, 415, 422, 503),
    },
)
async def predict(
    name: ModelName,
    request: Request,
    alias: ChosenAlias = None,
    version: ChosenVersion = None,
    draw: Annotated[bool, Query(description="respond with a PNG picture of the image and the predicted boxes")] = False,
    threshold: Annotated[
        ThresholdText | None,
        Query(
            description="respond only with objects, and with classes of multilabel tasks, whose score is above it: a "
            "number for all classes, or `best` for the threshold of each class with the highest F1 on val"
        ),
    ] = None,
    classes: Annotated[
        list[str], Query(description="respond only with these classes; repeat the parameter for several")
    ] = [],  # noqa: B006
    runtime: Annotated[
        RuntimeChoice | None,
        Query(description="what computes the model; by default the setting `predict_runtime` of the service"),
    ] = None,
) -> Response:
    """Return the predictions for an image, or for several in their order."""
    model = chosen_model(name, alias, version)
    metrics = cast(Metrics, request.app.state.metrics)
    settings, link = cast(Settings, request.app.state.settings), cast(PredictorLink, request.app.state.predictor)
    model |= {} if runtime is None else {"runtime": runtime}
    query = {**model, **({"draw": "1"} if draw else {}), **({} if threshold is None else {"threshold": threshold})}
    query |= {"classes": json.dumps(classes)} if classes else {}
    await link.find(model)
    # A slow upload must not occupy a place in the queue.
    images = await read_image_fields(request, settings, cast(UploadMemory, request.app.state.upload_memory))
    if draw and len(images) > 1:
        detail = f"got {len(images)} images and draw=true; a picture is drawn of one image, so send one per request"
        raise Problem(422, "Several pictures", detail, [ProblemField(pointer="/image", detail=detail)])
    with link.admitted(len(images)):
        try:
            with metrics.prediction_latency.time():
                if len(images) > 1:
                    return await unless_gone(request, predict_images(link, query, images))
                return forwarded(await unless_gone(request, link.predict(query, images[0])))
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED_REQUEST)


def _move(
    registry: Registry, name: str, alias: str, to: int | None, *, expected: int | None, by: str, reason: str
) -> None:
    try:
        move_alias(registry, name, alias, to, expected=expected, by=by, reason=reason)
    except AliasMoved as error:
        raise Problem(412, "The alias has moved", str(error)) from error


def _alias_not_found(name: str, alias: str) -> Problem:
    return Problem(404, "Alias not found", f"{name!r} has no alias {alias!r}; GET /v1/models/{name} lists all")


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        detail = (
            f"got the alias {alias[:120]!r}; use letters, digits, '-' and '_', but not 'latest' or a name like 'v1'"
        )
        raise Problem(422, "Invalid alias", detail, [ProblemField(pointer="", detail=detail)])


def _check_conditions(
    alias: str, present: int | None, if_match: str | None, if_none_match: str | None, *, is_needed: bool
) -> None:
    """Raise Problem 412 or 428 unless the client knows where the alias points (RFC 9110, section 13)."""
    tag = None if present is None else _etag(present)
    points = "points to no version" if present is None else f"points to version {present}"
    if if_match is not None and not _matches(if_match, tag):
        raise Problem(
            412,
            "The alias has moved",
            f"{alias!r} {points}, not {if_match[:80]}; read the alias again before you move it",
        )
    if if_none_match is not None and _matches(if_none_match, tag):
        raise Problem(412, "The alias exists", f"{alias!r} {points}; to move it, send If-Match: {tag}")
    if is_needed and if_match is None:
        detail = f"{alias!r} {points}; send If-Match: {tag} to change it"
        raise Problem(428, "If-Match is required", detail)


def _matches(condition: str, tag: str | None) -> bool:
    return tag is not None and (condition.strip() == "*" or tag in [part.strip() for part in condition.split(",")])


def _etag(version: int) -> str:
    return f'"{version}"'
