"""The session cookie of the web page, and the token that each change must carry. Torch-free.

The cookie holds the API key itself, or random text on a server that needs none: sessions survive a restart of the
server, and end when the key is revoked. Scripts cannot read it (`HttpOnly`), and browsers do not send it with requests
that other sites make (`SameSite=Strict`). The token is derived from the cookie, so that only pages of this server know
it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

COOKIE = "pyramidion_session"
TOKEN_HEADER = "X-CSRF-Token"
_LOCAL = "local-"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def session_of(headers: Headers) -> str | None:
    """Return the content of the session cookie; None without one.

    Browsers send the cookies of all servers of a host. The parser of the standard library finds none of them if one is
    irregular, such as one with JSON.
    """
    return cookie_parser(headers.get("cookie", "")).get(COOKIE) or None


def key_of(headers: Headers) -> str | None:
    """Return the API key of a session; None without one."""
    session = session_of(headers)
    return None if session is None or session.startswith(_LOCAL) else session


def new_session() -> str:
    """Return the content of the cookie of a caller without a key."""
    return f"{_LOCAL}{secrets.token_urlsafe(24)}"


def token_of(session: str) -> str:
    """Return the token that the changes of a session must carry."""
    return hmac.new(session.encode(), b"pyramidion change", hashlib.sha256).hexdigest()


def lacks_token(method: str, headers: Headers) -> bool:
    """Return True for a change that has the session cookie but not its token: another site may have caused it."""
    session = session_of(headers)
    if session is None or method in SAFE_METHODS:
        return False
    return not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token_of(session).encode())


def set_session(response: Response, session: str, *, is_secure: bool) -> None:
    """Let the browser keep a session until it is closed."""
    response.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=is_secure, path="/")


def end_session(response: Response) -> None:
    """Let the browser forget its session."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def is_https(scheme: str, headers: Mapping[str, str]) -> bool:
    """Return True if the browser uses TLS, as far as this server or the proxy before it knows."""
    return scheme == "https" or headers.get("x-forwarded-proto") == "https"
