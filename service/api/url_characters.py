"""Reject URLs with a NUL character, which no name has: PostgreSQL refuses it as a value, and files as a path."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.rest.problems import problem_response


class NoNulCharacters:
    """Responds with 400 if the path or the query contains a NUL, encoded or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            response = problem_response(400, "Invalid character", "the URL contains %00, which no name has; remove it")
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)
