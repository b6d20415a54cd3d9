"""Results of a job: metrics, predictions and files."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from pipelines.spec.result import RunResult
from pipelines.tasks.kinds import KINDS
from service.api.access import needs
from service.api.artifacts import (
    content_disposition,
    find_artifact,
    list_artifacts,
    media_type,
    repr_digest,
    sha256,
)
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.entity_tags import is_known, tagged
from service.api.file_response import file_response
from service.api.thread_pools import FileRoute, ThreadPool, Work
from service.rest.problems import Problem, problems
from service.rest.schemas import ArtifactList
from service.scopes import Scope

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], route_class=FileRoute)

PREDICTIONS = {kind.predictions.suffix: kind.predictions.media_type for kind in KINDS.values()}
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ANY_FILE: dict[str, Any] = {"application/octet-stream": BINARY, "*/*": {}}
"""Generated clients need a concrete type; the response has the type of the file."""
PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The requested range", "content": ANY_FILE},
    304: {"description": "Unchanged"},
    416: {"description": "The range is outside the file"},
}


@router.get(
    "/results",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=RunResult,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_results(
    job_id: JobId, request: Request, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> Response:
    """Return the metrics of a job: its result.json, unchanged."""
    job = jobs.find(principal, job_id)
    try:
        content = RunDir.of(settings.run_dir(job.id)).result.read_bytes()
    except FileNotFoundError:
        raise Problem(404, "No results", f"job {job.id} is {job.status} and has no results (yet)") from None
    return tagged(request, content)


@router.get(
    "/predictions/{task}",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=Response,
    responses={
        200: {
            "description": "Detections as COCO results, classes as a table, embeddings as npz",
            "content": {"application/json": {}, "text/csv": {}, "application/octet-stream": BINARY},
        },
        **PARTS,
        **problems(404),
    },
)
def get_predictions(
    job_id: JobId,
    task: Annotated[str, PathParameter(max_length=64)],
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
) -> Response:
    """Return the predictions of the best checkpoint for one task on the evaluated split."""
    job = jobs.find(principal, job_id)
    run_dir = settings.run_dir(job.id)
    folder = RunDir.of(run_dir).predictions
    for suffix, kind in PREDICTIONS.items():
        if path := find_artifact(run_dir, f"{folder.name}/{task}{suffix}"):
            return _file(request, path, kind)
    available = sorted(path.name.removesuffix(suffix) for suffix in PREDICTIONS for path in folder.glob(f"*{suffix}"))
    known = f"it has predictions for {', '.join(available)}" if available else "it has no predictions (yet)"
    raise Problem(404, "No predictions", f"job {job.id} is {job.status}; {known}, but not for {task!r}")


@router.get("/artifacts", dependencies=[needs(Scope.JOBS_READ)], responses=problems(404))
def list_job_artifacts(job_id: JobId, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep) -> ArtifactList:
    """List the files of a job's run folder with sizes and checksums."""
    return ArtifactList(artifacts=list_artifacts(settings.run_dir(jobs.find(principal, job_id).id)))


@router.get(
    "/artifacts/{path:path}",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=Response,
    responses={
        200: {
            "description": "The file, or with `Range` a part of it",
            "content": ANY_FILE,
            "headers": {"Repr-Digest": {"schema": {"type": "string"}, "description": "sha-256, RFC 9530"}},
        },
        **PARTS,
        **problems(404),
    },
)
def get_artifact(
    job_id: JobId, path: str, request: Request, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> Response:
    """Return a file of a job's run folder."""
    job = jobs.find(principal, job_id)
    found = find_artifact(settings.run_dir(job.id), path)
    if found is None:
        raise Problem(404, "File not found", f"job {job.id} has no file {path[:200]!r}; GET .../artifacts lists all")
    return _file(request, found, media_type(found))


def _file(request: Request, path: Path, kind: str) -> Response:
    """Return a file, or the requested range of it, with its checksum."""
    digest = sha256(path)
    headers = {
        "ETag": f'"{digest.hex()[:32]}"',
        "Repr-Digest": repr_digest(digest),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = content_disposition(path)
    streams: ThreadPool = request.app.state.pools[Work.STREAMS]
    return file_response(request.headers, path, headers, kind, streams)
