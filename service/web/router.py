"""All routes of the web page."""

from fastapi import APIRouter

from service.web.routes import (
    compare,
    datasets,
    docs,
    job,
    jobs,
    models,
    new_job,
    results,
    session,
    static,
    sweeps,
    system,
)

PAGES = (compare, datasets, docs, jobs, models, new_job, results, session, static, sweeps, system, job)
"""The page of a job is the last one: its path matches other paths below `/jobs` too."""

router = APIRouter()
for routes in PAGES:
    router.include_router(routes.router)
