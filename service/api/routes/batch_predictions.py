"""Batch predictions over HTTP: a job of its own kind, named by the model in the path."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Request, Response

from service.api.access import needs
from service.api.batch_uploads import BODY, OPTIONS_FIELD, FormRoute, ImagesForm, options_of
from service.api.deps import JobsDep, PoolsDep, PrincipalDep, SettingsDep
from service.api.limits import JsonRoute
from service.api.registry_route import RegistryDep, require_aliases
from service.api.routes.jobs import (
    LOCATION,
    REPLAYED,
    IdempotencyKey,
    accepted,
    check_in_pools,
    queue_in_pools,
    request_key,
    submitted_in_pools,
)
from service.api.thread_pools import Work
from service.api.uploads import Uploads
from service.datasets.use_cases import Datasets
from service.jobs.errors import InvalidJob
from service.jobs.kinds.batch_prediction import BatchPredictionKind
from service.jobs.submission import JobSubmission
from service.rest.model_schemas import BatchPredictionRequest
from service.rest.problems import Problem, problems
from service.rest.schemas import JobView
from service.scopes import Scope
from service.store.dataset_records import JobImages

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=JsonRoute)

PATH = "/{name}/batch-predictions"
MODEL = ("model",)
ModelPath = Annotated[str, Path(max_length=256, description="name of a model")]


async def submit_uploaded_images(
    name: ModelPath,
    request: Request,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    settings: SettingsDep,
    registry: RegistryDep,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Put a job into the queue that predicts the images of a form, which is the data set of this job."""
    datasets, uploads = cast(Datasets, request.app.state.datasets), cast(Uploads, request.app.state.uploads)
    # A slow upload for an unknown model must not occupy a place.
    await pools[Work.REGISTRY].run(require_aliases, registry, name)
    free_bytes = await pools[Work.READS].run(datasets.free_bytes, principal)
    form = ImagesForm(request.headers.get("content-type", ""), settings)
    async with uploads.receive(request, form, free_bytes) as archive:
        options = options_of(form, archive.sha256)
        given = options.model_dump(mode="json", exclude_unset=True)
        key = request_key(idempotency_key, {"model": name, "options": given, "sha256": archive.sha256})
        if (earlier := await submitted_in_pools(pools, jobs, principal, key)) is not None:
            return accepted(response, earlier, is_new=False)
        images = datasets.new_images(archive)
        with _model_not_found(), _below_options():
            new = await check_in_pools(pools, jobs, principal, _submission(name, options, images))
        queue = partial(jobs.queue, principal, new, key)
        details, is_new = await pools[Work.ARCHIVES].run(datasets.store_images, archive, images, queue)
    request.app.state.dataset_checks.wake()
    return accepted(response, details, is_new)


# Before the other route, which matches requests with a form as well.
router.add_api_route(
    PATH,
    submit_uploaded_images,
    methods=["POST"],
    status_code=202,
    dependencies=[needs(Scope.MODELS_READ, Scope.JOBS_WRITE, Scope.DATASETS_WRITE)],
    include_in_schema=False,
    route_class_override=FormRoute,
)


@router.post(
    PATH,
    dependencies=[needs(Scope.MODELS_READ, Scope.JOBS_WRITE)],
    status_code=202,
    openapi_extra={"requestBody": BODY},
    responses={
        202: {"description": "The job is in the queue", "headers": {**LOCATION, **REPLAYED}},
        **problems(404, 408, 499, 503, 507),
    },
)
async def submit_batch_prediction(
    name: ModelPath,
    body: BatchPredictionRequest,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Put a job into the queue that predicts all images of a folder, of a data set, or of an upload.

    The version of the model is fixed now. `GET /v1/jobs/{job_id}/predictions` lists the results. Images that are
    uploaded in a form belong to the job and are deleted with it; keys need the scope `datasets:write` for them.
    """
    given = body.model_dump(mode="json", exclude_unset=True)
    key = request_key(idempotency_key, {"model": name, **given})
    with _model_not_found():
        return accepted(response, *await queue_in_pools(pools, jobs, principal, _submission(name, body), key))


def _submission(name: str, body: BatchPredictionRequest, images: JobImages | None = None) -> JobSubmission:
    given = body.model_dump(mode="json", exclude_unset=True)
    config: dict[str, Any] = {key: value for key, value in given.items() if key not in ("priority", "resources")}
    return JobSubmission(
        config | {"model": name},
        body.priority,
        body.resources.counts(),
        body.resources.timeout_s,
        BatchPredictionKind.name,
        config_at=(),
        images=images,
    )


@contextmanager
def _model_not_found() -> Iterator[None]:
    """Raise Problem 404 if the model in the path is the problem of a submission."""
    try:
        yield
    except InvalidJob as error:
        for problem in error.problems:
            if problem.path[-1:] == MODEL:
                raise Problem(404, "Model not found", f"model: {problem.message}") from error
        raise


@contextmanager
def _below_options() -> Iterator[None]:
    """Let the problems of a submission point into the field of the form."""
    try:
        yield
    except InvalidJob as error:
        raise InvalidJob([problem.below(OPTIONS_FIELD) for problem in error.problems]) from error
