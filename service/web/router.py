"""All routes of the web page."""

from fastapi import APIRouter

from service.web.routes import docs, job, jobs, new_job, results, session, static

PAGES = (docs, jobs, new_job, results, session, static, job)
"""The page of a job is the last one: its path matches other paths below `/jobs` too."""

router = APIRouter()
for routes in PAGES:
    router.include_router(routes.router)
