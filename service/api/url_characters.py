"""Reject URLs with a NUL character, which no name has: PostgreSQL refuses it as a value, and files as a path."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.rest.problems import problem_response


class NoNulCharacters:
    """Responds with 404 if the path contains a NUL, encoded or not, and with 400 if the query does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if "\0" in scope["path"]:
                detail = "the path contains %00, and nothing has such a name; remove it"
                await problem_response(404, "Not Found", detail)(scope, receive, send)
                return
            if b"%00" in scope["query_string"]:
                detail = "the query contains %00, and nothing has such a name; remove it"
                await problem_response(400, "Invalid character", detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)
