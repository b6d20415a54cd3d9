"""The scopes that routes require. Each route states them in its decorator:

    @router.get("/{job_id}", dependencies=[needs(Scope.JOBS_READ)])

A route without a scope that any valid key may use says `needs()`. Routes in `OPEN_PATHS` need no key. The same
dependency hides the models of other tenants, so that no route can forget it.
"""

from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from service.api.model_access import require_visible_model
from service.principal import Principal
from service.rest.problems import Problem
from service.scopes import Scope

OPEN_PATHS = frozenset({"/livez", "/readyz", "/docs", "/openapi.json", "/login"})
"""Paths that need no key: probes, the description of the API, and the page that asks for a key."""

OPEN_FOLDER = "/static/"
"""Start of the paths of files that need no key either."""

OLD_KEYS_PATHS = frozenset({"/metrics"})
"""Paths for which keys as they were last read are enough: metrics must be visible while the database is down."""
REALM = 'Bearer realm="pyramidion"'
"""The challenge of 401 and 403 (RFC 6750)."""
SCHEME = "ApiKey"
_BEARER = HTTPBearer(
    scheme_name=SCHEME,
    description="a key of `pyramidion keys create`; not needed by a server on the loopback interface without keys",
    auto_error=False,
)


def needs(*scopes: Scope) -> Any:
    """Return the dependency of a route that only callers with all these scopes may use."""
    return Security(require_scopes, scopes=[scope.value for scope in scopes])


async def require_scopes(
    request: Request, needed: SecurityScopes, _credentials: Annotated[object, Security(_BEARER)]
) -> None:
    """Raise Problem 403 unless the caller has the scopes of the route, and 404 for a model of another tenant."""
    principal: Principal = request.state.principal
    missing = principal.lacks([Scope(scope) for scope in needed.scopes])
    if missing:
        names = " and ".join(missing)
        challenge = f'{REALM}, error="insufficient_scope", scope="{" ".join(needed.scopes)}"'
        raise Problem(
            403,
            "The key lacks a scope",
            f"the key {principal.name!r} does not have the scope {names}; use a key that was created with "
            f"--scope {' --scope '.join(missing)}",
            headers={"WWW-Authenticate": challenge},
        )
    # Not before the scopes: a key without them must not learn which names exist.
    await require_visible_model(request)
