"""Request and response bodies of API keys. Torch-free."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.principal import LOCAL_TENANT
from service.rest.schemas import Answer, Request
from service.scopes import Scope

KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Limit = Annotated[int, Field(ge=1, le=2**63 - 1)]


class KeyRequest(Request):
    """A new key."""

    name: KeyName = Field(description="name of the key, for lists and the audit log")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = Field(
        description="permissions of the key"
    )
    tenant: KeyName = Field(LOCAL_TENANT, description="owner of what the key creates, and sees")
    expires_at: datetime | None = Field(
        None, description="end of the key, as a time or a date; in UTC without a zone; null: unlimited"
    )
    requests_per_minute: Limit | None = Field(None, description="instead of the server's limit")
    queued_jobs: Limit | None = Field(None, description="instead of the server's limit")
    storage_bytes: Limit | None = Field(None, description="instead of the server's limit")


class KeyView(Answer):
    """A key without its secret part."""

    id: str = Field(description="id of the key, for its URL")
    prefix: str = Field(description="first characters of the text of the key")
    name: str = Field(description="name of the key, not unique")
    tenant: str = Field(description="owner of what the key creates, and sees")
    scopes: list[Scope] = Field(description="permissions, sorted by name")
    is_usable: bool = Field(description="false if it was revoked or has expired")
    created_at: datetime = Field(description="time of its creation")
    expires_at: datetime | None = Field(description="null: unlimited")
    revoked_at: datetime | None = Field(description="null unless it was revoked")
    last_used_at: datetime | None = Field(description="to about a minute; null if it was never used")
    requests_per_minute: int | None = Field(description="null: the server's limit")
    queued_jobs: int | None = Field(description="null: the server's limit")
    storage_bytes: int | None = Field(description="null: the server's limit")


class NewKey(KeyView):
    """A key that was just created, with its text."""

    text: str = Field(description="the key itself; it is stored as a hash, and cannot be read again")


class KeyList(Answer):
    """All keys."""

    keys: list[KeyView] = Field(description="oldest first, also those that were revoked or have expired")
