"""The page that submits a job: data and a recipe, or a whole document."""

import asyncio
import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, Response

from service.rest.document_text import InvalidDocument, document_of
from service.rest.problems import Problem
from service.rest.schemas import ProblemField
from service.web.calls import RestDep, RestProblem
from service.web.page import PageRoute, render
from service.web.yaml_places import lines_of

router = APIRouter(prefix="/jobs/new", include_in_schema=False, route_class=PageRoute)
DEFAULT_BUDGET = "10m"
Text = Annotated[str, Field(max_length=1_000_000)]
Reference = Annotated[str, Query(max_length=200, pattern="^([^/@]+@[^/@]+)?$")]
"""NAME@VERSION of a data set."""


class JobForm(BaseModel):
    """The fields of the form, as text."""

    mode: Literal["recipe", "document"]
    dataset: Text = ""
    folder: Text = ""
    budget: Text = ""
    document: Text = ""
    kind: Text = "fit"
    priority: Text = "0"
    cpus: Text = ""
    gpus: Text = ""
    key: Text = ""

    def body(self) -> dict[str, Any]:
        """Return the body of `POST /v1/jobs`.

        A long document takes a while, so that the event loop must not wait for it.

        Raises:
            InvalidDocument: the document is not YAML or JSON.
        """
        resources = {"cpus": _number(self.cpus), "gpus": _number(self.gpus)}
        common = {
            "priority": _number(self.priority),
            "resources": {k: v for k, v in resources.items() if v is not None},
        }
        if self.mode == "document":
            return {"config": document_of(self.document), "kind": self.kind, **common}
        data = {"root": self.folder.strip()} if self.folder.strip() else {"dataset": self.dataset}
        return {"recipe": "finetune", "data": data, "budget": self.budget.strip(), **common}


FormDep = Annotated[JobForm, Form()]


@router.get("")
async def get_new_job(request: Request, rest: RestDep, dataset: Reference = "") -> HTMLResponse:
    """Return the form, for a data set if one is given."""
    server = await rest.get("/v1/capabilities")
    found = await rest.get("/v1/datasets", {"status": "ready", "limit": 200})
    drafted = None
    if dataset:
        name, _, version = dataset.partition("@")
        drafted = (await rest.get(f"/v1/datasets/{name}/versions/{version}"))["document"]
    return await render(
        request,
        "new_job.html",
        server=server,
        datasets=[one for one in found["datasets"] if not one["of_jobs"]],
        chosen=dataset,
        drafted=drafted,
        budget=DEFAULT_BUDGET,
        key=secrets.token_hex(16),
    )


@router.post("/check")
async def check_job(request: Request, rest: RestDep, form: FormDep) -> HTMLResponse:
    """Return the report of a dry run, or the problems of the document."""
    try:
        answer = await rest.send("POST", "/v1/jobs", {"dry_run": "true"}, await asyncio.to_thread(form.body))
    except (RestProblem, InvalidDocument) as error:
        return await _problems(request, form, error)
    report = answer.json()
    starts = {stage: row["epoch"] + 1 for row in reversed(report["trainable"]) for stage in row["stages"]}
    return await render(request, "parts/dry_run.html", report=report, starts=starts)


@router.post("")
async def submit_job(request: Request, rest: RestDep, form: FormDep) -> Response:
    """Submit the job, and lead to its page."""
    try:
        body = await asyncio.to_thread(form.body)
        answer = await rest.send("POST", "/v1/jobs", body=body, headers={"Idempotency-Key": form.key})
    except (RestProblem, InvalidDocument) as error:
        return await _problems(request, form, error)
    return Response(status_code=204, headers={"HX-Redirect": f"/jobs/{answer.json()['id']}"})


async def _problems(request: Request, form: JobForm, error: RestProblem | InvalidDocument) -> HTMLResponse:
    """Return the problems, each with its field of the form or its line in the document."""
    if isinstance(error, InvalidDocument):
        problems = [ProblemField(pointer="/config", detail=str(error))]
        return await render(
            request, "parts/job_problems.html", title="The document cannot be read", problems=problems, lines={}
        )
    problem = error.problem
    problems = problem.errors or [ProblemField(pointer="", detail=problem.detail)]
    lines = await asyncio.to_thread(lines_of, form.document) if form.mode == "document" else {}
    found = {one.pointer: lines.get(one.pointer.removeprefix("/config")) for one in problems}
    return await render(request, "parts/job_problems.html", title=problem.title, problems=problems, lines=found)


def _number(text: str) -> int | None:
    """Return a whole number; None for an empty field. Raises Problem 422."""
    try:
        return int(text) if text.strip() else None
    except ValueError:
        raise Problem(422, "The form is invalid", f"got {text[:80]!r}; write a whole number") from None
