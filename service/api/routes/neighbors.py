"""Neighbors of an embedding among the items of the evaluated split of a job."""

from fastapi import APIRouter, Request

from service.api.access import needs
from service.api.asked_task import TaskName
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.evaluated_files import EvaluatedFiles, evaluated_task
from service.api.limits import JsonRoute
from service.api.thread_pools import Work
from service.rest.neighbors import NeighborList, NeighborRequest, NeighborView
from service.rest.problems import Problem, problems
from service.scopes import Scope


class _Route(JsonRoute):
    """A route that accepts JSON, and reads files."""

    work = Work.FILES


router = APIRouter(prefix="/v1/jobs/{job_id}/results/{task}", tags=["results"], route_class=_Route)


@router.post("/neighbors", dependencies=[needs(Scope.JOBS_READ)], responses=problems(404, 422))
def find_neighbors(
    job_id: JobId,
    task: TaskName,
    body: NeighborRequest,
    request: Request,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
) -> NeighborList:
    """Return the items of the evaluated split that are most similar to an embedding.

    The embedding must be of the model that the job has trained.
    """
    asked = evaluated_task(job_id, task, jobs, principal, settings)
    files: EvaluatedFiles = request.app.state.evaluated_files
    stored = files.embeddings(asked)
    try:
        found = stored.nearest(body.embedding, body.count)
    except ValueError as error:
        raise Problem(422, "Unusable embedding", f"field 'embedding': {error}") from None
    images = request.url.path.removesuffix("neighbors") + "images"
    return NeighborList(
        task=asked.task,
        split=asked.split,
        num_items=len(stored),
        neighbors=[
            NeighborView(
                **item.image._asdict(), annotation_id=item.annotation_id, identity=item.identity,
                bbox_xywh=item.bbox_xywh, similarity=similarity, picture=f"{images}/{item.image.image_id}/picture",
            )
            for item, similarity in found
        ],
    )  # fmt: skip
