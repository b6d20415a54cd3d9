"""All routes of the web page."""

from fastapi import APIRouter

from service.web.routes import jobs, models, session, static

PAGES = (jobs, models, session, static)

router = APIRouter()
for routes in PAGES:
    router.include_router(routes.router)
