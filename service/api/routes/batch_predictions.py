"""Batch predictions over HTTP: a job of its own kind, named by the model in the path."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from service.api.access import needs
from service.api.deps import JobsDep, PoolsDep, PrincipalDep
from service.api.limits import JsonRoute
from service.api.routes.jobs import LOCATION, REPLAYED, IdempotencyKey, accepted, queue_in_pools, request_key
from service.jobs.errors import InvalidJob
from service.jobs.kinds.batch_prediction import BatchPredictionKind
from service.jobs.submission import JobSubmission
from service.rest.model_schemas import BatchPredictionRequest
from service.rest.problems import Problem, problems
from service.rest.schemas import JobView
from service.scopes import Scope

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=JsonRoute)

MODEL = ("model",)


@router.post(
    "/{name}/batch-predictions",
    dependencies=[needs(Scope.MODELS_READ, Scope.JOBS_WRITE)],
    status_code=202,
    responses={
        202: {"description": "The job is in the queue", "headers": {**LOCATION, **REPLAYED}},
        **problems(404, 503),
    },
)
async def submit_batch_prediction(
    name: Annotated[str, Path(max_length=256, description="name of a model")],
    body: BatchPredictionRequest,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Put a job into the queue that predicts all images of a folder or a data set.

    The version of the model is fixed now. `GET /v1/jobs/{job_id}/predictions` lists the results.
    """
    given = body.model_dump(mode="json", exclude_unset=True)
    config: dict[str, Any] = {key: value for key, value in given.items() if key not in ("priority", "resources")}
    submission = JobSubmission(
        config | {"model": name},
        body.priority,
        body.resources.counts(),
        body.resources.timeout_s,
        BatchPredictionKind.name,
        config_at=(),
    )
    try:
        key = request_key(idempotency_key, {"model": name, **given})
        details, is_new = await queue_in_pools(pools, jobs, principal, submission, key)
    except InvalidJob as error:
        for problem in error.problems:
            if problem.path == MODEL:
                raise Problem(404, "Model not found", f"model: {problem.message}") from error
        raise
    return accepted(response, details, is_new)
