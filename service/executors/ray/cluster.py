"""A Ray cluster by its REST API: jobs and nodes, read at most once per second, with short timeouts.

Ray's own client waits without a limit and imports all of Ray, so it is not used. The requests are those of Ray's
documented Jobs API and State API.
"""

import http.client
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from service.executors.base import ExecutorUnavailable
from service.executors.ray.states import RayJob, RayState
from service.resources import CPUS, GPUS

TIMEOUT_S = 4.0
"""Maximum time without an answer: several requests must fit into the lease of a supervisor."""
FRESH_S = 1.0
SILENCE_S = 2.0
"""Time after a request without an answer in which no other is tried."""
EXISTS = "already exists"
MAX_NODES = 10_000
TOKEN, TOKEN_PATH, AUTH_MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"
GPU_LABEL = "ray.io/accelerator-type"
"""The label of a node that names the type of its GPUs; Ray finds it, or `ray start --labels` sets it."""
RESOURCES = {"CPU": CPUS, "GPU": GPUS}


class RequestRefused(Exception):
    """Ray answers, but refuses a request; the message is Ray's."""


class JobExists(Exception):
    """Ray has a job with this submission id."""


@dataclass(frozen=True)
class RayNode:
    """A living node of the cluster, with its resources in total, and the type of its GPUs if Ray knows it."""

    node_id: str
    resources: Mapping[str, int]
    gpu_type: str | None = None


class RayCluster:
    """One cluster.

    Args:
        address: `http://HOST:PORT` of the dashboard of its head.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self.address = address
        self._host, self._port, self._is_https = parts.hostname, parts.port, parts.scheme == "https"
        self._jobs: dict[str, RayJob] = {}
        self._nodes: dict[str, RayNode] = {}
        self._jobs_at = self._nodes_at = self._silent_at = -1e9
        self._silence = ""

    def jobs(self) -> Mapping[str, RayJob]:
        """Return all jobs by their submission ids, as they were at most a second ago.

        Raises:
            ExecutorUnavailable: the cluster does not answer.
        """
        if time.monotonic() - self._jobs_at >= FRESH_S:
            rows = self._answer("GET", "/api/jobs/")
            self._jobs = {job.submission_id: job for row in rows if (job := RayJob.of(row)) is not None}
            self._jobs_at = time.monotonic()
        return self._jobs

    def nodes(self) -> Mapping[str, RayNode]:
        """Return the living nodes by their ids; raises ExecutorUnavailable."""
        if time.monotonic() - self._nodes_at >= FRESH_S:
            answer = self._answer("GET", f"/api/v0/nodes?limit={MAX_NODES}")
            rows = answer["data"]["result"]["result"]
            self._nodes = {row["node_id"]: _node(row) for row in rows if row["state"] == "ALIVE"}
            self._nodes_at = time.monotonic()
        return self._nodes

    def submit(self, submission_id: str, entrypoint: str, **more: Any) -> None:
        """Submit a job, unless one with its submission id exists.

        Raises:
            ExecutorUnavailable: the cluster does not answer, or cannot accept jobs at the moment.
            RequestRefused: the request is invalid.
        """
        request = {"submission_id": submission_id, "entrypoint": entrypoint, **more}
        with suppress(JobExists):
            self._answer("POST", "/api/jobs/", request)
        self._jobs[submission_id] = self._jobs.get(submission_id) or RayJob(submission_id, RayState.PENDING)

    def stop(self, submission_id: str) -> None:
        """Ask Ray to stop a job, if it exists; raises ExecutorUnavailable."""
        self._answer("POST", f"/api/jobs/{quote(submission_id)}/stop", missing_ok=True)

    def delete(self, submission_id: str) -> None:
        """Remove a job that has ended from Ray's table, if it exists; raises ExecutorUnavailable."""
        self._answer("DELETE", f"/api/jobs/{quote(submission_id)}", missing_ok=True)
        self._jobs.pop(submission_id, None)

    def _answer(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        if time.monotonic() - self._silent_at < SILENCE_S:
            raise ExecutorUnavailable(self._silence)
        try:
            status, content = self._request(method, path, None if body is None else json.dumps(body))
            if status == http.client.NOT_FOUND and missing_ok:
                return None
            if status == http.client.OK:
                return json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._silence = f"Ray at {self.address} does not answer ({error or type(error).__name__})"
            self._silent_at = time.monotonic()
            raise ExecutorUnavailable(self._silence) from error
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            found = "has none" if _token() is None else "has another one"
            problem = f"requires a token, and the service {found}; set {TOKEN} or {TOKEN_PATH} to that of the cluster"
            raise ExecutorUnavailable(f"Ray at {self.address} {problem}")
        text = content.decode(errors="replace")
        # Its error is the last line of a traceback that has words.
        lines = [line for line in text.splitlines() if " " in line.strip()]
        message = f"Ray at {self.address} answers {status} to {method} {path}: {lines[-1] if lines else text.strip()}"
        if status == http.client.BAD_REQUEST:
            raise RequestRefused(message)
        if EXISTS in text:
            raise JobExists(message)
        raise ExecutorUnavailable(message)

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        token = _token()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _node(row: Mapping[str, Any]) -> RayNode:
    found = row.get("resources_total") or {}
    counts = {name: int(found.get(of_ray, 0)) for of_ray, name in RESOURCES.items()}
    return RayNode(row["node_id"], counts, (row.get("labels") or {}).get(GPU_LABEL))


def _token() -> str | None:
    """Return the token of the cluster from the places where Ray's own tools look for it."""
    if token := os.environ.get(TOKEN, "").strip():
        return token
    named = os.environ.get(TOKEN_PATH)
    if named is None and os.environ.get(AUTH_MODE) != "token":
        return None
    try:
        return Path(named or "~/.ray/auth_token").expanduser().read_text().strip() or None
    except OSError:
        return None
