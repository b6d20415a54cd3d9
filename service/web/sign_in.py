"""The answer to a request for a page without a valid key: the page that asks for one."""

from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

_API = ("/v1/", "/metrics")


def sign_in_response(scope: Scope) -> Response | None:
    """Return a redirection of a browser to the page that asks for a key; None for a client of the REST API."""
    headers = Headers(scope=scope)
    address = f"/login?{urlencode({'next': _address(scope)})}"
    if headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": f"/login?next={quote(_page_of(headers))}"})
    if scope["method"] != "GET" or scope["path"].startswith(_API) or "text/html" not in headers.get("accept", ""):
        return None
    return RedirectResponse(address, 303, {"Cache-Control": "no-store"})


def _address(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"{quote(scope['path'])}?{query}" if query else quote(scope["path"])


def _page_of(headers: Headers) -> str:
    """Return the path of the page that sent a request of htmx."""
    _, _, rest = headers.get("hx-current-url", "").partition("://")
    return "/" + rest.partition("/")[2]
