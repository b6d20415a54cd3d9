"""The files with the predictions of a job: those of a training for the evaluated split, or those of new images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from pipelines.run_folder.layout import RunDir
from pipelines.tasks.kinds import KINDS
from service.api.access import needs
from service.api.artifacts import find_artifact
from service.api.content_negotiation import preferred
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.download import BINARY, DIGEST, PARTS, download
from service.api.file_digests import file_state
from service.api.thread_pools import FileRoute
from service.rest.problems import Problem, problems
from service.rest.schemas import PredictionFile, PredictionFiles
from service.scopes import Scope

router = APIRouter(prefix="/v1/jobs/{job_id}/predictions", tags=["results"], route_class=FileRoute)

FORMATS = {
    known.suffix: known.media_type
    for kind in KINDS.values()
    for known in (kind.predictions, *(file.format for file in kind.answer_files))
}
"""Media types by suffix; the first of a task's files is the default."""


class _Found(NamedTuple):
    task: str
    suffix: str
    path: Path


@router.get("", dependencies=[needs(Scope.JOBS_READ)], responses=problems(404))
def list_predictions(job_id: JobId, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep) -> PredictionFiles:
    """List the files with predictions, by task and format."""
    job = jobs.find(principal, job_id)
    return PredictionFiles(
        files=[
            PredictionFile(
                task=task,
                url=f"/v1/jobs/{job.id}/predictions/{task}{suffix}",
                media_type=FORMATS[suffix],
                size_bytes=state.size,
                sha256=state.sha256.hex(),
            )
            for task, suffix, path in _files(settings.run_dir(job.id))
            if (state := file_state(path)) is not None
        ]
    )


@router.get(
    "/{task}",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=Response,
    responses={
        200: {
            "description": "Detections as COCO results or as a table, classes as a table, embeddings as npz",
            "content": {"application/json": {}, "text/csv": {}, "application/octet-stream": BINARY},
            "headers": DIGEST,
        },
        **PARTS,
        **problems(404),
    },
)
def get_predictions(
    job_id: JobId,
    task: Annotated[str, PathParameter(max_length=80, description="name of a task, or with a suffix such as `.csv`")],
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    accept: Annotated[str | None, Header(description="media type, for a task with several files")] = None,
) -> Response:
    """Return the predictions for one task: of the best checkpoint on the evaluated split, or for the images of a batch
    prediction."""
    job = jobs.find(principal, job_id)
    found = list(_files(settings.run_dir(job.id)))
    own = {FORMATS[suffix]: path for name, suffix, path in found if task in (name, f"{name}{suffix}")}
    if not own:
        tasks = sorted({name for name, _, _ in found})
        known = f"it has predictions for {', '.join(tasks)}" if tasks else "it has no predictions (yet)"
        raise Problem(404, "No predictions", f"job {job.id} is {job.status}; {known}, but not for {task!r}")
    chosen = preferred(accept, list(own)) or next(iter(own))
    return download(request, own[chosen], chosen, varies=True)


def _files(run_dir: Path) -> Iterator[_Found]:
    """Yield the files of all tasks in the order of the formats, without hidden files and links out of the folder."""
    folder = RunDir.of(run_dir).predictions
    names = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    for suffix in FORMATS:
        for name in names:
            task = name.removesuffix(suffix)
            # Names of tasks have no dots.
            if name.endswith(suffix) and "." not in task and (path := find_artifact(run_dir, f"{folder.name}/{name}")):
                yield _Found(task, suffix, path)
