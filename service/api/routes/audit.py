"""The audit log, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.api.access import needs
from service.api.cursor import PageCursor, read_cursor, write_cursor
from service.api.thread_pools import PooledRoute
from service.api.views import audit_view
from service.rest.audit_schemas import AuditPage
from service.scopes import Scope
from service.store.audit import AuditLog

router = APIRouter(prefix="/v1/audit", tags=["operations"], route_class=PooledRoute)

_CURSOR = "audit"


@router.get("", dependencies=[needs(Scope.ADMIN)])
def list_audit(
    request: Request,
    tenant: Annotated[str | None, Query(max_length=64, description="only changes of what this tenant owns")] = None,
    cursor: PageCursor = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="maximum number of changes of the page")] = 100,
) -> AuditPage:
    """List changes, newest first: who changed what, when, and with which outcome."""
    log: AuditLog = request.app.state.audit
    before = None if cursor is None else read_cursor(cursor, _CURSOR)
    found = log.page(before=before, tenant=tenant, limit=limit + 1)
    next_cursor = write_cursor(found[limit - 1].seq, _CURSOR) if len(found) > limit else None
    return AuditPage(changes=[audit_view(row) for row in found[:limit]], next_cursor=next_cursor)
