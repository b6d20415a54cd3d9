"""Requests of a page to the REST routes of the same application, in this process."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import Message, Scope

from service.rest.schemas import ProblemDetails

_OF_THE_PAGE = ("route", "endpoint", "path_params", "fastapi_inner_astack", "fastapi_function_astack")
"""Entries of the scope that belong to the route of the page."""

JSON = "application/json"
Query = Mapping[str, str | int | float | Sequence[str] | None]


class RestProblem(Exception):
    """A REST route has answered with a problem."""

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True)
class RestAnswer:
    """A response of a REST route that is not a problem."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Return the content of the body; None if it is empty."""
        return json.loads(self.body) if self.body else None


class RestCalls:
    """Calls REST routes on behalf of the caller of a page, so that a page shows only what REST returns.

    The routes check scopes and tenants as for other requests. A page counts as one request of its key.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    async def get(self, path: str, query: Query | None = None, *, accepted: Collection[int] = ()) -> Any:
        """Return the JSON content of a resource, also with an accepted status; raises RestProblem."""
        return (await self.send("GET", path, query, accepted=accepted)).json()

    async def get_or_none(self, path: str, query: Query | None = None) -> Any:
        """Return the JSON content of a resource; None if it does not exist (404). Raises RestProblem."""
        answer = await self.send_or_none("GET", path, query)
        return None if answer is None else answer.json()

    async def send_or_none(self, method: str, path: str, query: Query | None = None) -> RestAnswer | None:
        """Send a request; return None if the resource does not exist (404). Raises RestProblem."""
        try:
            return await self.send(method, path, query)
        except RestProblem as error:
            if error.problem.status != 404:
                raise
            return None

    async def send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accepted: Collection[int] = (),
    ) -> RestAnswer:
        """Send a request, with a JSON body unless it is None; raises RestProblem, except for an accepted status."""
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self._call(self._scope(method, path, query or {}, content, headers or {}), content)
        if answer.status >= 400 and answer.status not in accepted:
            raise RestProblem(_problem_of(answer))
        return answer

    def _scope(self, method: str, path: str, query: Query, content: bytes, more: Mapping[str, str]) -> Scope:
        outer = self._request.scope
        given = {name: value for name, value in query.items() if value is not None}
        headers = [
            (name, value)
            for name, value in outer["headers"]
            if name not in (b"accept", b"content-type", b"content-length", b"if-none-match", b"range")
        ]
        headers += [(name.lower().encode(), text.encode()) for name, text in {"accept": JSON, **more}.items()]
        if content:
            headers += [(b"content-type", JSON.encode()), (b"content-length", str(len(content)).encode())]
        return {
            **{name: value for name, value in outer.items() if name not in _OF_THE_PAGE},
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": urlencode(given, doseq=True).encode(),
            "headers": headers,
            "state": dict(outer.get("state", {})),
        }

    async def _call(self, scope: Scope, content: bytes) -> RestAnswer:
        messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop() if messages else await self._request.receive()

        async def send(message: Message) -> None:
            sent.append(message)

        await self._request.app.router(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return RestAnswer(sent[0]["status"], Headers(raw=sent[0]["headers"]), body)


def _problem_of(answer: RestAnswer) -> ProblemDetails:
    return ProblemDetails.model_validate_json(answer.body)


async def _rest(request: Request) -> RestCalls:
    return RestCalls(request)


RestDep = Annotated[RestCalls, Depends(_rest)]
