"""The audit log: who changed what, and when.

A change of the database and its row are written in one transaction. A change elsewhere, such as an alias in MLflow, has
a row with the outcome `started`, which becomes `done` or `failed`; after a crash it remains `started`.
"""

import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine, insert, select, update

from service.principal import Principal
from service.store.database import reading, writing
from service.store.tables import audit

AuditOutcome = Literal["done", "started", "failed"]
MAX_TARGET = 300
MAX_DETAIL = 1000


@dataclass(frozen=True)
class AuditRow:
    """A row of `audit`."""

    seq: int
    time: float
    request_id: str | None
    actor: str
    key_id: str | None
    tenant: str
    action: str
    target: str
    outcome: AuditOutcome
    detail: str | None


def append_audit(
    connection: Connection,
    by: Principal,
    action: str,
    target: str,
    *,
    tenant: str | None = None,
    outcome: AuditOutcome = "done",
    detail: str | None = None,
) -> int:
    """Append a row in the transaction of the change, and return its number.

    Args:
        by: the principal that makes the change.
        action: kind of the target and verb, such as `job.cancel`.
        target: id or name of what changes.
        tenant: owner of the target; None for the tenant of `by`.
        detail: more about the change, without secrets.
    """
    row = {
        "time": time.time(),
        "request_id": by.request_id,
        "actor": by.name,
        "key_id": by.key_id,
        "tenant": by.tenant if tenant is None else tenant,
        "action": action,
        "target": target[:MAX_TARGET],
        "outcome": outcome,
        "detail": None if detail is None else detail[:MAX_DETAIL],
    }
    return int(connection.execute(insert(audit).values(row).returning(audit.c.seq)).scalar_one())


class AuditLog:
    """Reads the log, and writes rows for changes that are not made in the database; raises StoreUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(
        self, by: Principal, action: str, target: str, *, tenant: str | None = None, detail: str | None = None
    ) -> int:
        """Write the row of a change that is about to be made elsewhere, and return its number."""
        with writing(self._engine) as connection:
            return append_audit(connection, by, action, target, tenant=tenant, outcome="started", detail=detail)

    def end(self, seq: int, outcome: AuditOutcome, detail: str | None = None) -> None:
        """Write the outcome of a change that was started."""
        values = {"outcome": outcome} | ({} if detail is None else {"detail": detail[:MAX_DETAIL]})
        with writing(self._engine) as connection:
            connection.execute(update(audit).where(audit.c.seq == seq).values(values))

    def page(self, *, before: int | None = None, tenant: str | None = None, limit: int = 100) -> list[AuditRow]:
        """Return rows, newest first; the last one's `seq` is the next page's `before`."""
        query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.seq < before)
        if tenant is not None:
            query = query.where(audit.c.tenant == tenant)
        with reading(self._engine) as connection:
            return [AuditRow(**row._asdict()) for row in connection.execute(query)]
