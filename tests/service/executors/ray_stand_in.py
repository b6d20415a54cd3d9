"""The part of Ray's REST API that the executor uses, with a table of jobs that a test fills itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import handling

TOKEN = "t0ken"
NODES = [
    {"node_id": "n1", "state": "ALIVE", "resources_total": {"CPU": 2.0, "GPU": 1.0, "memory": 1e9}},
    {"node_id": "n2", "state": "ALIVE", "resources_total": {"CPU": 4.0}},
    {"node_id": "n3", "state": "DEAD", "resources_total": {"CPU": 64.0}},
]


@dataclass
class RayTable:
    """Jobs by submission id, the requests that changed them, and the living and dead nodes."""

    address: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=lambda: list(NODES))
    requests: list[str] = field(default_factory=list)
    status: int = 200
    has_token: bool = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, "Traceback\nAgentError: no agent"
        if method == "GET":
            rows = {"data": {"result": {"result": self.nodes}}}
            return 200, rows if path.startswith("/api/v0/nodes?limit=") else list(self.jobs.values())
        self.requests.append(f"{method} {path}")
        if path == "/api/jobs/":
            return self._submitted(body)
        name = path.removeprefix("/api/jobs/").removesuffix("/stop")
        if name not in self.jobs:
            return 404, f"Job {name} does not exist"
        if method == "DELETE":
            del self.jobs[name]
        return 200, {}

    def _submitted(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["entrypoint_num_cpus"] > 64:
            return 400, "ValueError: too many cores"
        if body["submission_id"] in self.jobs:
            problem = f"ValueError: Job with submission_id {body['submission_id']} already exists. Please use another."
            return 500, f"Traceback (most recent call last):\n{problem}\n\n.\n"
        self.jobs[body["submission_id"]] = {**body, "status": "PENDING", "driver_node_id": None}
        return 200, {"submission_id": body["submission_id"]}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, answer: Callable[..., tuple[int, Any]], has_token: Callable[[], bool]) -> None:
        self._answer, self._has_token = answer, has_token
        super().__init__(*arguments)

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        if self._has_token() and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, content = 401 if self.headers.get("Authorization") is None else 403, "Unauthorized"
        else:
            status, content = self._answer(self.command, self.path, body)
        sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _respond  # noqa: N815


@contextmanager
def ray_table() -> Iterator[RayTable]:
    """Yield a table that is served at its `address`."""
    table = RayTable()
    with handling(_Handler, answer=table.answer, has_token=lambda: table.has_token) as address:
        table.address = address
        yield table
