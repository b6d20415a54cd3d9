"""The images of the evaluated split of a job: with labels and predictions, and as pictures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi import Response as Headers
from starlette.responses import Response

from pipelines.tasks.image_marks import ErrorOutcome, Order
from service.api.access import needs
from service.api.asked_task import TaskName
from service.api.cursor import LINKED, PageCursor, link_next, read_cursor
from service.api.deps import JobId, JobsDep, PoolsDep, PrincipalDep, SettingsDep
from service.api.download import ANY_FILE
from service.api.entity_tags import is_known, tag_of
from service.api.evaluated_files import EvaluatedFiles, EvaluatedTask, evaluated_task
from service.api.thread_pools import FileRoute, Work
from service.datasets.resolution import data_roots_of_jobs
from service.rest.problems import Problem, problems
from service.rest.result_images import ResultImage, ResultImages
from service.scopes import Scope
from service.settings import Settings

if TYPE_CHECKING:
    from pipelines.data.source_images import NewImageReader
    from service.api.result_pictures import ResultPictures

CURSOR = "images"
KEPT_S = 3600
"""Browsers ask again after this time whether a picture has changed."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.evaluated_files = EvaluatedFiles()
    app.state.result_pictures = None
    try:
        yield
    finally:
        if app.state.result_pictures is not None:
            await app.state.result_pictures.close()


router = APIRouter(
    prefix="/v1/jobs/{job_id}/results/{task}/images",
    tags=["results"],
    route_class=FileRoute,
    lifespan=_lifespan,
    dependencies=[needs(Scope.JOBS_READ)],
)


@router.get("", responses={**LINKED, **problems(404, 422)})
def list_result_images(
    job_id: JobId,
    task: TaskName,
    request: Request,
    response: Headers,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    outcome: Annotated[ErrorOutcome | None, Query(description="only images with such an error")] = None,
    label: Annotated[str | None, Query(max_length=300, description="the class of the label of the error")] = None,
    predicted: Annotated[str | None, Query(max_length=300, description="the class of its prediction")] = None,
    threshold: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            description="score above which predictions of all classes count; by default as in the confusion matrix: "
            "the best threshold of each class of a detection task, and 0.5 for a multilabel task",
        ),
    ] = None,
    order: Annotated[Order, Query(description="worst first, or by file name")] = "worst",
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=100, description="maximum number of images of the page")] = 24,
) -> ResultImages:
    """Return images of the evaluated split with labels and predictions, each marked as right or as an error.

    A label and the prediction that finds it are one mark: `label` and `predicted` together select the images behind a
    cell of the confusion matrix.
    """
    asked = evaluated_task(job_id, task, jobs, principal, settings)
    marked = _files(request).marked(asked, threshold)
    try:
        found = marked.find(outcome, label, predicted, order)
    except ValueError as error:
        raise Problem(422, "Unknown class", str(error)) from None
    start = 0 if cursor is None else read_cursor(cursor, CURSOR)
    shown = found[start : start + limit]
    has_more = start + limit < len(found)
    path = request.url.path
    return ResultImages(
        task=asked.task,
        kind=asked.result["kind"],
        split=asked.split,
        classes=list(marked.classes),
        thresholds=dict(marked.thresholds),
        iou=marked.iou,
        num_images=len(marked.names),
        num_found=len(found),
        images=[
            ResultImage(**dict(image), picture=f"{path}/{image.image_id}/picture") for image in map(marked.image, shown)
        ],
        next_cursor=link_next(request, response, start + limit, CURSOR) if has_more else None,
    )


@router.get(
    "/{image_id}/picture",
    response_class=Response,
    responses={
        200: {"description": "The picture as JPEG", "content": ANY_FILE},
        304: {"description": "Unchanged"},
        **problems(404, 422, 503),
    },
)
async def get_result_picture(
    job_id: JobId,
    task: TaskName,
    image_id: Annotated[int, PathParameter(ge=0, le=2**53, description="`image_id` of an image of the list")],
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    pools: PoolsDep,
    max_side: Annotated[int, Query(ge=32, le=2048, description="largest width and height; smaller ones stay")] = 512,
) -> Response:
    """Return an image of the evaluated split as the model has seen it, upright and in RGB, without labels."""
    files = pools[Work.FILES]

    def locate() -> tuple["NewImageReader", Path, str]:
        return _locate(_files(request), evaluated_task(job_id, task, jobs, principal, settings), image_id, settings)

    reader, path, state_of_file = await files.run(locate)
    tag = tag_of(f"{state_of_file} {max_side}".encode())
    headers = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={KEPT_S}",
        "X-Content-Type-Options": "nosniff",
    }
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    new_pictures, state = await files.run(_pictures_class), request.app.state
    if state.result_pictures is None:
        state.result_pictures = new_pictures(settings)
    content = await state.result_pictures.read(files, path, reader, max_side)
    return Response(content, headers=headers, media_type="image/jpeg")


def _pictures_class() -> type["ResultPictures"]:
    from service.api.result_pictures import ResultPictures  # numpy, which the process imports only when it is needed

    return ResultPictures


def _files(request: Request) -> EvaluatedFiles:
    files: EvaluatedFiles = request.app.state.evaluated_files
    return files


def _locate(
    files: EvaluatedFiles, asked: EvaluatedTask, image_id: int, settings: Settings
) -> tuple["NewImageReader", Path, str]:
    """Return the reader and the file of an image, and text that changes with the file; raises Problem 404."""
    image = next((name for name in files.names(asked) if name.image_id == image_id), None)
    if image is None:
        raise Problem(404, "No such image", f"the split {asked.split} of {asked.task!r} has no image {image_id}")
    source = files.source(asked.run_dir, (*data_roots_of_jobs(settings),))
    path, stat = source.locate(image, asked.split)
    return source.reader(image), path, f"{path} {stat.st_mtime_ns} {stat.st_size}"
