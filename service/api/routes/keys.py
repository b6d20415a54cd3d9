"""API keys, for administrators. Changes have audit rows, which the store writes in their transactions."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Request, Response

from service.api.access import needs
from service.api.deps import PoolsDep, PrincipalDep
from service.api.limits import JsonRoute
from service.api.thread_pools import Work
from service.api.views import moment, moment_or_none
from service.keys.key_text import shown_prefix
from service.keys.use_cases import LATEST_END, Keys
from service.principal import KeyLimits
from service.rest.key_schemas import KeyList, KeyRequest, KeyView, NewKey
from service.rest.problems import Problem, problems
from service.rest.schemas import ProblemField
from service.scopes import Scope
from service.store.api_keys import ApiKey

router = APIRouter(prefix="/v1/keys", tags=["operations"], route_class=JsonRoute)


async def _keys(request: Request) -> Keys:
    return cast(Keys, request.app.state.keys)


KeysDep = Annotated[Keys, Depends(_keys)]
KeyId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="id of a key")]


@router.get("", dependencies=[needs(Scope.ADMIN)])
def list_keys(keys: KeysDep) -> KeyList:
    """List all keys of all tenants."""
    return KeyList(keys=[KeyView(**_fields(key)) for key in keys.list_keys()])


@router.post("", status_code=201, dependencies=[needs(Scope.ADMIN)])
async def create_key(
    body: KeyRequest, response: Response, keys: KeysDep, principal: PrincipalDep, pools: PoolsDep
) -> NewKey:
    """Create a key and return its text, which cannot be read again.

    A server on the loopback interface needs a key from each client once the first key exists.
    """
    key, text = await pools[Work.WRITES].run(
        keys.create,
        principal,
        body.name,
        frozenset(body.scopes),
        tenant=body.tenant,
        expires_at=_end_of_life(body.expires_at),
        limits=KeyLimits(body.requests_per_minute, body.queued_jobs, body.storage_bytes),
    )
    response.headers["Cache-Control"] = "no-store"
    return NewKey(**_fields(key), text=text)


@router.delete("/{key_id}", status_code=204, dependencies=[needs(Scope.ADMIN)], responses=problems(404))
async def revoke_key(key_id: KeyId, keys: KeysDep, principal: PrincipalDep, pools: PoolsDep) -> None:
    """Revoke a key: all API processes refuse it within seconds. It stays in the list."""
    await pools[Work.WRITES].run(keys.revoke_id, principal, key_id)


def _end_of_life(expires_at: datetime | None) -> float | None:
    """Return the time in seconds since 1970; raises Problem 422 for one that has passed, or is too late."""
    if expires_at is None:
        return None
    ends_at = (expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)).timestamp()
    if ends_at <= time.time():
        detail = f"got {expires_at.isoformat()}, which has passed; send a later time"
        raise Problem(422, "The key would have expired", detail, [ProblemField(pointer="/expires_at", detail=detail)])
    if ends_at > LATEST_END:
        detail = f"got {expires_at.isoformat()}, after the year 9998; omit it for a key without an end"
        raise Problem(422, "The key would end too late", detail, [ProblemField(pointer="/expires_at", detail=detail)])
    return ends_at


def _fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "prefix": shown_prefix(key.id),
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "is_usable": key.is_usable,
        "created_at": moment(key.created_at),
        "expires_at": moment_or_none(key.expires_at),
        "revoked_at": moment_or_none(key.revoked_at),
        "last_used_at": moment_or_none(key.last_used_at),
        "requests_per_minute": key.limits.requests_per_minute,
        "queued_jobs": key.limits.queued_jobs,
        "storage_bytes": key.limits.storage_bytes,
    }
