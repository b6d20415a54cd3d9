"""One job: its state, attempts, curves, log, document and files."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from service.states import TERMINAL, JobStatus
from service.web.calls import RestCalls, RestDep
from service.web.marked_yaml import marked_yaml
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)
TABLE_POINTS = 100
"""Points of a curve that are read for the table of their last and extreme values."""


@router.get("/jobs/{job_id}")
async def get_job(job_id: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page of a job; requests of its live part get no more than that."""
    place = f"/v1/jobs/{job_id}"
    job, found = await asyncio.gather(rest.get(place), rest.get(f"{place}/curves", {"max_points": TABLE_POINTS}))
    is_part = request.headers.get("hx-target") == "live"
    has_own_result = job["status"] == JobStatus.SUCCEEDED and job["kind"] != "fit"
    return await render(
        request,
        "job.html",
        job=job,
        curves=found["curves"],
        num_omitted=found["num_omitted"],
        is_over=job["status"] in TERMINAL,
        result=await rest.get_or_none(f"{place}/results") if has_own_result else None,
        constant=None if is_part else await _constant(rest, place, job),
    )


async def _constant(rest: RestCalls, place: str, job: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that change only with the stage of the job: the document, the environment and the data."""
    number = job["attempt"]
    document, process, inputs, data_report, result = await asyncio.gather(
        rest.get(f"{place}/document"),
        rest.get_or_none(f"{place}/artifacts/attempts/{number}/run.json"),
        rest.get_or_none(f"{place}/artifacts/inputs.json"),
        rest.get_or_none(f"{place}/artifacts/data_report.json"),
        rest.get_or_none(f"{place}/results"),
    )
    return {
        "lines": await asyncio.to_thread(marked_yaml, document["document"], document["differs"] or ()),
        "has_defaults": document["differs"] is not None,
        "process": process or {},
        "inputs": inputs or {},
        "data_report": data_report or {},
        "versions": (result or {}).get("versions", {}),
    }


@router.get("/jobs/{job_id}/files")
async def get_files(job_id: str, request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page with the files of a job."""
    job, found = await asyncio.gather(rest.get(f"/v1/jobs/{job_id}"), rest.get(f"/v1/jobs/{job_id}/artifacts"))
    return await render(request, "job_files.html", job=job, files=found["artifacts"])
