"""All routes of the web page."""

from fastapi import APIRouter

from service.web.routes import docs, jobs, new_job, results, session, static

PAGES = (docs, jobs, new_job, results, session, static)

router = APIRouter()
for routes in PAGES:
    router.include_router(routes.router)
