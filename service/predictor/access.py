"""Access to a predictor that listens at an address: by a shared secret."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.predictor_address import HEALTH_PATH
from service.rest.problems import problem_response


class SecretRequired:
    """Rejects requests without the secret (`Authorization: Bearer SECRET`), except health checks."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH_PATH:
            given = Headers(scope=scope).get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._expected):
                response = problem_response(401, "The secret is wrong", "send the secret of this predictor")
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
