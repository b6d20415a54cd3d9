"""The worst images of the tasks of a job, and labels to review."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from pipelines.tasks.worst_images import WorstImages
from service.api.access import needs
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.entity_tags import tagged
from service.api.thread_pools import FileRoute
from service.rest.problems import Problem, problems
from service.scopes import Scope

router = APIRouter(prefix="/v1/jobs/{job_id}/results", tags=["results"], route_class=FileRoute)
_TASK = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@router.get(
    "/{task}/worst",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=WorstImages,
    responses={304: {"description": "Unchanged"}, **problems(404)},
)
def get_worst_images(
    job_id: JobId,
    task: Annotated[str, Path(max_length=80, description="name of a detection task")],
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
) -> Response:
    """Return the images that cost most AP with their errors, and labels that may be wrong, for review."""
    job = jobs.find(principal, job_id)
    run_dir = RunDir.of(settings.run_dir(job.id))
    try:
        content = run_dir.worst(task).read_bytes() if _TASK.fullmatch(task) else None
    except FileNotFoundError:
        content = None
    if content is None:
        known = sorted(path.stem for path in run_dir.worst_folder.glob("*.json") if "." not in path.stem)
        has = f"there are some of {', '.join(known)}" if known else "only detection tasks of ended trainings have some"
        raise Problem(404, "No worst images", f"job {job.id} is {job.status} and has none of {task!r}; {has}")
    return tagged(request, content)
