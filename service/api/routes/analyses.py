"""Analyses of one task of a job: what is wrong with its model."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from pipelines.base.printable import shortened
from pipelines.run_folder.layout import RunDir
from pipelines.spec.analyses import (
    CalibrationAnalysis,
    ConfusionAnalysis,
    CurvesAnalysis,
    ErrorsAnalysis,
    TaskAnalysis,
)
from pipelines.tasks.kinds import KINDS
from service.api.access import needs
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.entity_tags import tagged
from service.api.thread_pools import FileRoute
from service.rest.problems import Problem, problems
from service.scopes import Scope

router = APIRouter(
    prefix="/v1/jobs/{job_id}/results/{task}",
    tags=["results"],
    route_class=FileRoute,
    dependencies=[needs(Scope.JOBS_READ)],
    responses={304: {"description": "Unchanged"}, **problems(404)},
)


@dataclass(frozen=True)
class AskedTask:
    """The task of a job that a request asks for. Nothing is read before the route runs in its threads."""

    job_id: str
    task: str
    split: Literal["val", "test"] | None
    jobs: JobsDep
    principal: PrincipalDep
    settings: SettingsDep

    def scored(self) -> dict[str, Any]:
        """Return the entry of the task in result.json, with its name and split; raises Problem 404 without one."""
        job = self.jobs.find(self.principal, self.job_id)
        try:
            result = json.loads(RunDir.of(self.settings.run_dir(job.id)).result.read_bytes())
        except FileNotFoundError:
            raise Problem(404, "No results", f"job {job.id} is {job.status} and has no results") from None
        if "tasks" not in result:
            raise Problem(404, "No such results", f"job {job.id} is not a training, and has no tasks")
        shown = self.split or result["split"]
        scored = result if shown == result["split"] else result["val"] if shown == "val" else None
        if scored is None:
            raise Problem(404, "No such split", f"job {job.id} was not scored on {shown}; leave out `split`")
        if self.task not in scored["tasks"]:
            names = ", ".join(scored["tasks"])
            detail = f"job {job.id} has the tasks {names}, but not {shortened(repr(self.task))}"
            raise Problem(404, "No such task", detail)
        return {"task": self.task, "split": shown, "result": scored["tasks"][self.task]}


async def asked_task(
    job_id: JobId,
    task: Annotated[str, Path(max_length=200, description="name of a task of the job")],
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    split: Annotated[
        Literal["val", "test"] | None, Query(description="the split to show; by default the one that was scored last")
    ] = None,
) -> AskedTask:
    """Return the task that a request asks for."""
    return AskedTask(job_id, task, split, jobs, principal, settings)


AskedTaskDep = Annotated[AskedTask, Depends(asked_task)]


def _answer(request: Request, asked: AskedTask, name: str, schema: type[TaskAnalysis]) -> Response:
    scored = asked.scored()
    result = scored["result"]
    views = KINDS[result["kind"]].analyses(result)
    if name not in views:
        listed = ", ".join(views) or "none"
        raise Problem(
            404,
            "No such analysis",
            f"the {result['kind']} task {scored['task']!r} has no {name} (it has: {listed}); results of earlier "
            "versions, or without labels, have fewer analyses",
        )
    facts = {"task": scored["task"], "kind": result["kind"], "split": scored["split"]}
    return tagged(request, schema.model_validate({**facts, **views[name]}).model_dump_json().encode())


@router.get("/curves", response_model=CurvesAnalysis)
def get_curves(request: Request, asked: AskedTaskDep) -> Response:
    """Return precision over recall of each class, and precision, recall and F1 over the score (detection) or the ROC
    curve (classification)."""
    return _answer(request, asked, "curves", CurvesAnalysis)


@router.get("/confusion", response_model=ConfusionAnalysis)
def get_confusion(request: Request, asked: AskedTaskDep) -> Response:
    """Return the confusion matrix; that of a detection task has a row and a column for the background."""
    return _answer(request, asked, "confusion", ConfusionAnalysis)


@router.get("/errors", response_model=ErrorsAnalysis)
def get_errors(request: Request, asked: AskedTaskDep) -> Response:
    """Return how much AP50 each kind of error of a detection task costs."""
    return _answer(request, asked, "errors", ErrorsAnalysis)


@router.get("/calibration", response_model=CalibrationAnalysis)
def get_calibration(request: Request, asked: AskedTaskDep) -> Response:
    """Return the share of right predictions by score, and the expected calibration error."""
    return _answer(request, asked, "calibration", CalibrationAnalysis)
