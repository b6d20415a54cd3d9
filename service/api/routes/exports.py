"""Exports of versions to other runtimes: those that exist, and jobs that make one."""

from typing import Any

from fastapi import APIRouter, Response

from pipelines.tracking.registry import Registry
from pipelines.tracking.stored_exports import StoredExport
from service.api.access import needs
from service.api.deps import JobsDep, PoolsDep, PrincipalDep
from service.api.registry_route import ModelName, RegistryDep, RegistryRoute, require_version
from service.api.routes.jobs import LOCATION, REPLAYED, IdempotencyKey, accepted, queue_in_pools, request_key
from service.api.routes.model_versions import VersionNumber
from service.api.thread_pools import Work
from service.jobs.kinds.export import ExportKind
from service.jobs.submission import JobSubmission
from service.rest.export_schemas import ExportList, ExportView, VersionExportRequest
from service.rest.problems import problems
from service.rest.schemas import JobView
from service.scopes import Scope

PATH = "/{name}/versions/{version}/exports"

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=RegistryRoute)


@router.get(PATH, dependencies=[needs(Scope.MODELS_READ)], responses=problems(404, 503))
def list_exports(name: ModelName, version: VersionNumber, registry: RegistryDep) -> ExportList:
    """List the exports of a version with their metrics and times, beside those of torch float32."""
    found = require_version(registry, name, version)
    return ExportList(name=name, version=version, exports=[_view(export) for export in found.exports.values()])


@router.post(
    PATH,
    dependencies=[needs(Scope.MODELS_READ, Scope.JOBS_WRITE)],
    status_code=202,
    responses={
        202: {"description": "The job is in the queue", "headers": {**LOCATION, **REPLAYED}},
        **problems(404, 410, 503),
    },
)
async def submit_export(
    name: ModelName,
    version: VersionNumber,
    body: VersionExportRequest,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    registry: RegistryDep,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Put a job into the queue that exports a version, and evaluates the export on the val data of its training.

    `GET` on the same path lists it when the job has succeeded, also if it may not be served.
    """
    given = body.model_dump(mode="json", exclude_unset=True)
    key = request_key(idempotency_key, {"model": name, "version": version, **given})
    dataset = await pools[Work.REGISTRY].run(_dataset_of, registry, name, version)
    config: dict[str, Any] = {field: value for field, value in given.items() if field not in ("priority", "resources")}
    config |= {"model": name, "version": version} | ({} if dataset is None else {"dataset": dataset})
    submission = JobSubmission(
        config, body.priority, body.resources.counts(), body.resources.timeout_s, ExportKind.name, config_at=()
    )
    return accepted(response, *await queue_in_pools(pools, jobs, principal, submission, key))


def _dataset_of(registry: Registry, name: str, number: int) -> str | None:
    """Return the data set of the service that a version was trained on."""
    found = require_version(registry, name, number)
    dataset = registry.read_description(found).get("job", {}).get("data", {}).get("dataset")
    return dataset if isinstance(dataset, str) else None


def _view(export: StoredExport) -> ExportView:
    result = export.result
    return ExportView(
        name=result.name,
        servable=result.servable,
        reason=result.reason,
        speedup=None if result.latency is None else result.latency.speedup,
        main_metrics=result.main_metrics,
        result=result,
    )
