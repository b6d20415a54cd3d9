"""Jobs over HTTP: these routes translate requests and responses, `service.jobs.use_cases` does the work."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from service.api.access import needs
from service.api.cursor import LINKED, PageCursor, link_next, read_cursor
from service.api.deps import DryRunsDep, JobId, JobsDep, PoolsDep, PrincipalDep
from service.api.entity_tags import tagged
from service.api.limits import JsonRoute
from service.api.thread_pools import ThreadPools, Work
from service.api.views import job_summary, job_view
from service.jobs.kinds.registry import JOB_KINDS, JobKindName, job_kind
from service.jobs.submission import JobSubmission
from service.jobs.use_cases import JobDetails, JobQuery, Jobs, RequestKey
from service.principal import Principal
from service.rest.job_request import JobRequest
from service.rest.problems import Problem, problems
from service.rest.schemas import DryRun, JobPage, JobView, PriorityRequest, ProblemField, Resources
from service.scopes import Scope
from service.states import JobStatus
from service.store.records import NewJob

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern="^[!-~]([ -~]*[!-~])?$",
        description="A key chosen by the client: however often the same key and body are sent, they create one job",
    ),
]
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "the URL of the job"}}
REPLAYED = {
    "Idempotent-Replayed": {
        "schema": {"type": "string"},
        "description": "true if an earlier request with this key created the job",
    }
}


@router.post(
    "",
    dependencies=[needs(Scope.JOBS_WRITE)],
    status_code=202,
    response_model=JobView,
    responses={
        200: {"model": DryRun, "description": "With `dry_run`: what the job would do; nothing is stored"},
        202: {"description": "The job is in the queue", "headers": {**LOCATION, **REPLAYED}},
        **problems(503, 504, 507),
    },
)
async def submit_job(
    body: JobRequest,
    request: Request,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    pools: PoolsDep,
    dry_runs: DryRunsDep,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="check everything and report what the job would do")] = False,
) -> JobView | Response:
    """Put a job into the queue, or with `dry_run` report what it would do."""
    submission = _submission(body)
    if dry_run:
        _require_dry_run(body.kind)
        new = await check_in_pools(pools, jobs, principal, submission)
        resources = Resources(
            cpus=new.cpus, gpus=new.gpus, gpu_type=new.gpu_type, nodes=new.num_nodes, timeout_s=new.timeout_s
        )
        found = await dry_runs.run(request, new.config, submission.config_at)
        report = DryRun.model_validate({**found, "resources": resources})
        return Response(report.model_dump_json(), media_type="application/json")
    key = request_key(idempotency_key, body.model_dump(mode="json", exclude_unset=True))
    return accepted(response, *await queue_in_pools(pools, jobs, principal, submission, key))


@router.get(
    "",
    dependencies=[needs(Scope.JOBS_READ)],
    responses=LINKED,
)
def list_jobs(
    request: Request,
    response: Response,
    jobs: JobsDep,
    principal: PrincipalDep,
    status: Annotated[list[JobStatus], Query(description="jobs with any of these statuses; by default all jobs")] = [],  # noqa: B006
    kind: Annotated[list[JobKindName], Query(description="jobs of any of these kinds; by default all jobs")] = [],  # noqa: B006
    name: Annotated[str | None, Query(max_length=64, description="only jobs with this name")] = None,
    created_after: Annotated[datetime | None, Query(description="only jobs after this time, by default in UTC")] = None,
    created_before: Annotated[datetime | None, Query(description="only jobs before it")] = None,
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="maximum number of jobs of the page")] = 50,
) -> JobPage:
    """List jobs, newest first."""
    before_number = None if cursor is None else read_cursor(cursor)
    query = JobQuery(status, kind, name, _seconds(created_after), _seconds(created_before), before_number, limit)
    found, has_more = jobs.list_jobs(principal, query)
    next_cursor = link_next(request, response, found[-1].number) if has_more else None
    return JobPage(jobs=[job_summary(job) for job in found], next_cursor=next_cursor)


@router.get(
    "/{job_id}",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=JobView,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_job(job_id: JobId, request: Request, jobs: JobsDep, principal: PrincipalDep) -> Response:
    """Return all details of a job."""
    return tagged(request, _view(jobs.view(principal, job_id)).model_dump_json().encode())


@router.patch("/{job_id}", dependencies=[needs(Scope.JOBS_WRITE)], responses=problems(404, 409))
def change_priority(job_id: JobId, body: PriorityRequest, jobs: JobsDep, principal: PrincipalDep) -> JobView:
    """Change the priority of a queued job."""
    return _view(jobs.change_priority(principal, job_id, body.priority))


@router.post(
    "/{job_id}/cancel",
    dependencies=[needs(Scope.JOBS_WRITE)],
    status_code=202,
    responses={200: {"model": JobView, "description": "It was already cancelled"}, **problems(404, 409)},
)
def cancel_job(job_id: JobId, response: Response, jobs: JobsDep, principal: PrincipalDep) -> JobView:
    """Cancel a job: it becomes `cancelled` once all of its processes have exited."""
    details, is_new = jobs.cancel(principal, job_id)
    if not is_new:
        response.status_code = 200
    return _view(details)


@router.post(
    "/{job_id}/retry",
    dependencies=[needs(Scope.JOBS_WRITE)],
    status_code=202,
    responses={202: {"headers": {**LOCATION, **REPLAYED}}, **problems(404, 409, 422, 507)},
)
def retry_job(
    job_id: JobId, response: Response, jobs: JobsDep, principal: PrincipalDep, idempotency_key: IdempotencyKey = None
) -> JobView:
    """Queue a new job with the same document, priority and resources as a job that has ended."""
    key = request_key(idempotency_key, {"retry_of": job_id})
    return accepted(response, *jobs.retry(principal, job_id, key))


@router.delete("/{job_id}", dependencies=[needs(Scope.JOBS_WRITE)], status_code=204, responses=problems(404, 409))
async def delete_job(job_id: JobId, jobs: JobsDep, principal: PrincipalDep, pools: PoolsDep) -> None:
    """Delete a job that has ended, with its folder; models that it registered are kept."""
    await pools[Work.DELETIONS].run(jobs.delete, principal, job_id)


async def queue_in_pools(
    pools: ThreadPools, jobs: Jobs, principal: Principal, submission: JobSubmission, key: RequestKey | None
) -> tuple[JobDetails, bool]:
    """Check a submission and queue it, see `Jobs.submit`.

    The check reads the disks of the data, or asks the registry; this must not hold up those who only need the database.
    """
    earlier = await submitted_in_pools(pools, jobs, principal, key)
    if earlier is not None:
        return earlier, False
    new = await check_in_pools(pools, jobs, principal, submission)
    return await pools[Work.WRITES].run(jobs.queue, principal, new, key)


async def submitted_in_pools(
    pools: ThreadPools, jobs: Jobs, principal: Principal, key: RequestKey | None
) -> JobDetails | None:
    """Return the job that an earlier request with a key has created, if any."""
    return None if key is None else await pools[Work.READS].run(jobs.submitted, principal, key)


async def check_in_pools(pools: ThreadPools, jobs: Jobs, principal: Principal, submission: JobSubmission) -> NewJob:
    """Return the job that a submission would queue, see `Jobs.check`; raises InvalidJob."""
    await _check_models(pools, jobs, principal, submission)
    return await pools[_work_of_check(submission.kind)].run(jobs.check, principal, submission)


async def _check_models(pools: ThreadPools, jobs: Jobs, principal: Principal, submission: JobSubmission) -> None:
    if principal.visible_tenant is not None and job_kind(submission.kind).models(submission.config):
        await pools[Work.REGISTRY].run(jobs.check_models, principal, submission)


def _work_of_check(kind: str) -> Work:
    return Work.REGISTRY if job_kind(kind).asks_registry else Work.CHECKS


def _require_dry_run(kind: str) -> None:
    if not job_kind(kind).has_dry_run:
        able = ", ".join(name for name, known in JOB_KINDS.items() if known.has_dry_run)
        detail = f"a job of the kind {kind!r} has no dry run; dry runs exist for {able}"
        raise Problem(422, "No dry run", detail, [ProblemField(pointer="/kind", detail=detail)])


def _submission(body: JobRequest) -> JobSubmission:
    asked = body.resources
    return JobSubmission(
        body.document, body.priority, asked.counts(), asked.timeout_s, body.kind, body.document_at,
        gpu_type=asked.gpu_type,
    )  # fmt: skip


def request_key(key: str | None, content: dict[str, Any]) -> RequestKey | None:
    """Return the idempotency key of a request with the hash of its content; None if it has no key."""
    if key is None:
        return None
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return RequestKey(key, hashlib.sha256(canonical).hexdigest())


def accepted(response: Response, details: JobDetails, is_new: bool) -> JobView:
    """Return the view of a queued job, with its address in the headers."""
    response.headers["Location"] = f"{router.prefix}/{details.job.id}"
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return _view(details)


def _view(details: JobDetails) -> JobView:
    return job_view(
        details.job,
        details.config,
        details.attempts,
        details.waits_for,
        details.run_dir,
        details.trial,
        details.mlflow_url,
    )


def _seconds(moment: datetime | None) -> float | None:
    """Return seconds since 1970; a time without a zone is UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
