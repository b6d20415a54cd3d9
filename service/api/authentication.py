"""Authentication of requests, before they reach a route and before their body is read."""

import dataclasses
import math
import time
from collections.abc import Mapping
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.access import OLD_KEYS_PATHS, OPEN_FOLDER, OPEN_PATHS, REALM
from service.api.key_ring import KeyRing
from service.api.thread_pools import NoAnswer
from service.keys.key_text import id_of, is_text_of
from service.keys.rate_limit import RateLimit
from service.principal import LOCAL_USER, KeyLimits, Principal
from service.rest.problems import Problem, database_problem, problem_response
from service.settings import Settings
from service.store.api_keys import ApiKey
from service.store.errors import StoreUnavailable
from service.web.session import TOKEN_HEADER, key_of, lacks_token
from service.web.sign_in import sign_in_response

_SCHEME = "bearer"


class Unauthorized(Problem):
    """The request has no usable key."""

    def __init__(self, detail: str, error: str = "") -> None:
        challenge = f'{REALM}, error="{error}"' if error else REALM
        super().__init__(
            401,
            "A valid key is required",
            f"{detail}; `pyramidion keys create` on the server makes one",
            headers={"WWW-Authenticate": challenge},
        )


class Authenticator:
    """Finds the principal of a request. Use it in the event loop."""

    def __init__(self, ring: KeyRing, settings: Settings) -> None:
        self._ring, self._settings = ring, settings
        self._always_needs_key = settings.require_keys or not settings.is_local
        self._never_needs_key = settings.require_keys is False and settings.is_local
        self._rates = RateLimit()

    async def principal(self, authorization: str | None, *, are_old_keys_enough: bool = False) -> Principal:
        """Return the principal of an `Authorization` header.

        Args:
            authorization: the value of the header.
            are_old_keys_enough: use the keys as they were last read, without waiting for the database.

        Raises:
            Unauthorized: a key is needed, and it is missing or not usable.
            NoAnswer: the database does not answer in time.
            StoreUnavailable: the keys cannot be read, so that nobody can be authenticated.
        """
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip() if scheme.lower() == _SCHEME else ""
        known = self._ring.last_known() if are_old_keys_enough else None
        key = await self._find(id_of(text), known)
        if key is not None and is_text_of(key.secret_hash, text):
            _require_usable(key)
            self._ring.record_use(key)
            return self._principal_of(key)
        if not await self._needs_key(known):
            return LOCAL_USER
        if authorization is None:
            raise Unauthorized("send a key in the header `Authorization: Bearer KEY`")
        raise Unauthorized("the header `Authorization` has no valid key; check that it is complete", "invalid_token")

    async def problem_of_key(self, text: str) -> str | None:
        """Return why nobody can sign in with a key; None if it is valid."""
        try:
            key = await self._find(id_of(text), None)
            if key is None or not is_text_of(key.secret_hash, text):
                return "The key is not valid; check that it is complete."
            _require_usable(key)
        except Problem as problem:
            return str(problem.detail)
        return None

    async def _needs_key(self, known: Mapping[str, ApiKey] | None) -> bool:
        if self._always_needs_key or self._never_needs_key:
            return not self._never_needs_key
        return bool(await self._ring.keys() if known is None else known)

    async def _find(self, key_id: str | None, known: Mapping[str, ApiKey] | None) -> ApiKey | None:
        """Return the key with an id, if possible among the known ones, otherwise among those in the database."""
        if key_id is None:
            return None
        return (known or {}).get(key_id) or await self._ring.find(key_id)

    def admit(self, principal: Principal) -> None:
        """Count a request; raises Problem 429 if the key has sent too many."""
        limit = principal.limits.requests_per_minute
        if principal.key_id is None or limit is None:
            return
        if wait_s := self._rates.wait_s(principal.key_id, limit):
            detail = f"the key may send {limit} requests per minute; send the request again in {wait_s:.1f} s"
            raise Problem(429, "Too many requests", detail, headers={"Retry-After": str(math.ceil(wait_s))})

    def _principal_of(self, key: ApiKey) -> Principal:
        own, server = key.limits, self._settings
        limits = KeyLimits(
            own.requests_per_minute or server.key_requests_per_minute,
            own.queued_jobs or server.key_queued_jobs,
            own.storage_bytes or server.key_storage_bytes,
        )
        return Principal(key.name, key.tenant, key.scopes, key.id, limits)


class Authenticate:
    """Sets `request.state.principal`, or responds with a problem.

    A long response, such as a stream of events, ends soon after its key was revoked or has expired.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._recheck_s = app, settings.key_cache_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER):
            await self._app(scope, receive, send)
            return
        authenticator: Authenticator = scope["app"].state.authenticator
        authorization = _authorization(Headers(scope=scope))
        state = scope.setdefault("state", {})
        try:
            may_be_old = scope["path"] in OLD_KEYS_PATHS
            principal = await authenticator.principal(authorization, are_old_keys_enough=may_be_old)
            _require_token(scope)
            authenticator.admit(principal)
        except Problem as problem:
            if isinstance(problem, Unauthorized) and (sign_in := sign_in_response(scope)):
                await sign_in(scope, receive, send)
                return
            await problem_response(problem.status_code, problem.title, problem.detail, headers=problem.headers)(
                scope, receive, send
            )
            return
        except StoreUnavailable as error:
            await database_problem(scope["method"], scope["path"], error)(scope, receive, send)
            return
        state["principal"] = dataclasses.replace(principal, request_id=state.get("request_id"))
        guarded = _GuardedSend(send, authenticator, authorization, self._recheck_s)
        try:
            await self._app(scope, receive, guarded)
        except (ClientDisconnect, _KeyEnded):
            if not guarded.is_closed:
                raise


class _KeyEnded(OSError):
    """Ends a response, like the error of a connection that broke."""


class _GuardedSend:
    """Sends a response, and ends it once its key does not work anymore."""

    def __init__(self, send: Send, authenticator: Authenticator, authorization: str | None, recheck_s: float) -> None:
        self.is_closed = False
        self._send, self._authenticator, self._authorization = send, authenticator, authorization
        self._recheck_s = recheck_s
        self._checked_at = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("more_body"):
            await self._check()
        await self._send(message)

    async def _check(self) -> None:
        if time.monotonic() - self._checked_at < self._recheck_s:
            return
        # The key was valid: a database that restarts must not break every download.
        with suppress(NoAnswer, StoreUnavailable):
            try:
                await self._authenticator.principal(self._authorization)
            except Unauthorized:
                self.is_closed = True
                raise _KeyEnded from None
        self._checked_at = time.monotonic()


def _authorization(headers: Headers) -> str | None:
    """Return the header `Authorization`, or that of the session of the web page."""
    key = key_of(headers)
    return headers.get("authorization") or (None if key is None else f"{_SCHEME} {key}")


def _require_token(scope: Scope) -> None:
    """Raise Problem 403 for a change in the session of a web page that does not come from a page."""
    headers = Headers(scope=scope)
    if "authorization" not in headers and lacks_token(scope["method"], headers):
        detail = (
            f"a change in a session needs the header {TOKEN_HEADER}, which the pages of this server send; reload it"
        )
        raise Problem(403, "The request does not come from a page of this server", detail)


def _require_usable(key: ApiKey) -> None:
    if key.revoked_at is not None:
        raise Unauthorized(f"the key {key.name!r} was revoked; use another one", "invalid_token")
    if not key.is_usable:
        raise Unauthorized(f"the key {key.name!r} has expired; use another one", "invalid_token")
