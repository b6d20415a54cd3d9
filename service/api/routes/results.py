"""Results of a job: metrics and files."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from service.api.access import needs
from service.api.artifacts import find_artifact, list_artifacts, media_type
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.download import ANY_FILE, DIGEST, PARTS, download
from service.api.entity_tags import tagged
from service.api.thread_pools import FileRoute
from service.jobs.kinds.registry import JobResult
from service.rest.problems import Problem, problems
from service.rest.schemas import ArtifactList
from service.scopes import Scope

ArtifactPath = Annotated[str, Path(description="path of a file, relative to the run folder")]
router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], route_class=FileRoute)


@router.get(
    "/results",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=JobResult,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_results(
    job_id: JobId, request: Request, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> Response:
    """Return the result of a job, such as the metrics of a training: its result.json, unchanged."""
    job = jobs.find(principal, job_id)
    try:
        content = RunDir.of(settings.run_dir(job.id)).result.read_bytes()
    except FileNotFoundError:
        later = "has no results" if job.status.is_terminal else "has no results yet"
        raise Problem(404, "No results", f"job {job.id} is {job.status} and {later}") from None
    return tagged(request, content)


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
            "headers": DIGEST,
        },
        **PARTS,
        **problems(404),
    },
)
def get_artifact(
    job_id: JobId, path: ArtifactPath, request: Request, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> Response:
    """Return a file of a job's run folder."""
    job = jobs.find(principal, job_id)
    found = find_artifact(settings.run_dir(job.id), path)
    if found is None:
        raise Problem(404, "File not found", f"job {job.id} has no file {path[:200]!r}; GET .../artifacts lists all")
    return download(request, found, media_type(found))
