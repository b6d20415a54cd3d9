"""Jobs: submit, list, read, act."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.api.cursor import read_cursor, write_cursor
from service.api.deps import CapacityDep, DryRunsDep, JobId, SettingsDep, StoreDep
from service.api.entity_tags import tagged
from service.api.limits import JsonRoute
from service.api.submission import new_job, refusal, resource_errors
from service.api.views import job_summary, job_view
from service.api.waiting import waits_for
from service.executors.base import Capacity
from service.rest.problems import Problem, problems
from service.rest.schemas import DryRun, JobPage, JobRequest, JobView, PriorityRequest, Resources, ResourcesRequest
from service.settings import Settings
from service.states import JobStatus
from service.store.errors import NotEnded
from service.store.jobs import JobStore
from service.store.records import Job, NewJob

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern="^[!-~]([ -~]*[!-~])?$",
        description="Chosen by the client: the same key and body make one job, however often they are sent",
    ),
]
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "where the job is read"}}
REPLAYED = {"Idempotent-Replayed": {"schema": {"type": "string"}, "description": "true: the key made this job earlier"}}


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    responses={
        200: {"model": DryRun, "description": "With `dry_run`: what the job would be; nothing is stored"},
        202: {"description": "The job is in the queue", "headers": {**LOCATION, **REPLAYED}},
        **problems(503, 504),
    },
)
async def submit_job(
    body: JobRequest,
    request: Request,
    response: Response,
    store: StoreDep,
    settings: SettingsDep,
    capacity: CapacityDep,
    dry_runs: DryRunsDep,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="check everything, and say what the job would be")] = False,
) -> JobView | Response:
    """Put a job into the queue, or with `dry_run` say what it would be."""
    new = await run_in_threadpool(new_job, body, settings, capacity)
    if dry_run:
        outcome = DryRun.model_validate(
            {
                **await dry_runs.run(request, new.config),
                "resources": Resources(cpus=new.cpus, gpus=new.gpus, timeout_s=new.timeout_s),
            }
        )
        return Response(outcome.model_dump_json(), media_type="application/json")
    asked = body.model_dump(mode="json", exclude_unset=True)

    def submit() -> JobView:
        return _submit(new, idempotency_key, asked, response, store, settings, capacity)

    return await run_in_threadpool(submit)


@router.get("", responses={200: {"headers": {"Link": {"schema": {"type": "string"}, "description": "rel=next"}}}})
def list_jobs(
    request: Request,
    response: Response,
    store: StoreDep,
    status: Annotated[list[JobStatus], Query(description="any of these; none: all")] = [],  # noqa: B006
    name: Annotated[str | None, Query(max_length=64)] = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    """List jobs, newest first."""
    found = store.page(
        statuses=status,
        name=name,
        created_after=_seconds(created_after),
        created_before=_seconds(created_before),
        before_number=None if cursor is None else read_cursor(cursor),
        limit=limit + 1,
    )
    shown = found[:limit]
    next_cursor = write_cursor(shown[-1].number) if len(found) > limit else None
    if next_cursor is not None:
        url = request.url.include_query_params(cursor=next_cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return JobPage(jobs=[job_summary(job) for job in shown], next_cursor=next_cursor)


@router.get("/{job_id}", response_model=JobView, responses={304: {"description": "Unchanged"}, **problems(404)})
def get_job(job_id: JobId, request: Request, store: StoreDep, settings: SettingsDep, capacity: CapacityDep) -> Response:
    """Return a job with all that is known of it."""
    view = _view(store.get(job_id), store, settings, capacity)
    return tagged(request, view.model_dump_json().encode())


@router.patch("/{job_id}", responses=problems(404, 409))
def change_priority(
    job_id: JobId, body: PriorityRequest, store: StoreDep, settings: SettingsDep, capacity: CapacityDep
) -> JobView:
    """Give a queued job another place in the queue."""
    return _view(store.set_priority(job_id, body.priority), store, settings, capacity)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    responses={200: {"model": JobView, "description": "It was cancelled already"}, **problems(404, 409)},
)
def cancel_job(
    job_id: JobId, response: Response, store: StoreDep, settings: SettingsDep, capacity: CapacityDep
) -> JobView:
    """Ask a job to end: it becomes `cancelled`, and no process of it is left."""
    if store.get(job_id).status is JobStatus.CANCELLED:
        response.status_code = 200
    return _view(store.request_cancel(job_id), store, settings, capacity)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    responses={202: {"headers": {**LOCATION, **REPLAYED}}, **problems(404, 409, 422)},
)
def retry_job(
    job_id: JobId,
    response: Response,
    store: StoreDep,
    settings: SettingsDep,
    capacity: CapacityDep,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Put a new job with the same document, priority and resources into the queue, once the job has ended."""
    job = store.get(job_id)
    if not job.status.is_terminal:
        raise Problem(409, "Not ended", f"job {job.id} is {job.status}; a job is retried once it has ended")
    if errors := resource_errors(ResourcesRequest(cpus=job.cpus, gpus=job.gpus), capacity):
        raise refusal(errors)
    new = NewJob(job.name, store.config(job_id), job.priority, job.cpus, job.gpus, job.timeout_s, retry_of=job.id)
    return _submit(new, idempotency_key, {"retry_of": job.id}, response, store, settings, capacity)


@router.delete("/{job_id}", status_code=204, responses=problems(404, 409))
def delete_job(job_id: JobId, store: StoreDep, settings: SettingsDep) -> None:
    """Delete a job that has ended, with its folder; what it registered stays."""
    job = store.get(job_id)
    if not job.status.is_terminal or (job.mlflow_run_id is not None and job.mlflow_status is None):
        raise NotEnded(job)
    # The folder first: after a crash in between the job is still there to be deleted again.
    _remove(settings.run_dir(job.id))
    store.delete(job.id)


def _submit(
    new: NewJob,
    key: str | None,
    asked: dict[str, Any],
    response: Response,
    store: JobStore,
    settings: Settings,
    capacity: Capacity,
) -> JobView:
    """Put a job into the queue once for each key, and tell where it is."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()
    body_hash = None if key is None else hashlib.sha256(canonical).hexdigest()
    job, is_new = store.submit(new, key, body_hash)
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return _view(job, store, settings, capacity)


def _view(job: Job, store: JobStore, settings: Settings, capacity: Capacity) -> JobView:
    return job_view(
        job,
        store.config(job.id),
        store.attempts(job.id),
        waits_for(job, store, settings, capacity),
        settings.run_dir(job.id),
    )


def _seconds(moment: datetime | None) -> float | None:
    """Return seconds since 1970; a time without a zone is UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _remove(folder: Path) -> None:
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # another DELETE was faster with some file
