"""Authentication of requests, before they reach a route and before their body is read."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.principal import LOCAL_USER


class Authenticate:
    """Sets `request.state.principal`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["principal"] = LOCAL_USER
        await self._app(scope, receive, send)
