"""Analyses of one task of a job: what is wrong with its model."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipelines.spec.analyses import (
    CalibrationAnalysis,
    ConfusionAnalysis,
    CurvesAnalysis,
    ErrorsAnalysis,
    TaskAnalysis,
    TaskScores,
)
from pipelines.tasks.kinds import KINDS
from service.api.access import needs
from service.api.asked_task import AskedTask, AskedTaskDep
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


@router.get("", response_model=TaskScores)
def get_task_results(request: Request, asked: AskedTaskDep) -> Response:
    """Return the numbers of one task: its entry in result.json; those that an earlier version lacks are null."""
    scored = asked.scored()
    scores = TaskScores.model_validate({**scored, "kind": scored["result"]["kind"]})
    return tagged(request, scores.model_dump_json().encode())


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
