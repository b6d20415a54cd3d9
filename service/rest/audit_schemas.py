"""Response bodies of the audit log. Torch-free."""

from datetime import datetime

from pydantic import Field

from service.rest.schemas import Answer, Page
from service.store.audit import AuditOutcome


class Change(Answer):
    """A change, or an attempt to make one."""

    seq: int = Field(description="number of the row, in the order of the changes")
    time: datetime = Field(description="time of the request")
    actor: str = Field(description="name of the key or of the user")
    key_id: str | None = Field(description="null without a key")
    tenant: str = Field(description="owner of the target")
    action: str = Field(description="kind of the target and verb, such as job.cancel")
    target: str = Field(description="id or name of what was changed")
    outcome: AuditOutcome = Field(
        description="`started` if the outcome of a change outside of the database is not known (yet)"
    )
    detail: str | None = Field(description="details of the change; null if it has none")
    request_id: str | None = Field(description="`X-Request-ID` of the request; null for a command on the server")


class AuditPage(Page):
    """A page of changes, newest first."""

    changes: list[Change] = Field(description="rows of the audit log")
