"""A client of the service: each method is one call of the REST API. Imports neither torch nor FastAPI.

Failed connections are retried for a short time, since the API process may be restarting. This is safe for every call:
submissions carry an idempotency key, and all other calls can be repeated. Calls that only read are also repeated while
the service answers 503, for example because its database is restarting.
"""

import os
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2

from pipelines.base.errors import ConfigError, FieldProblem
from service.client.api_key import find_api_key
from service.client.errors import ServiceError, ServiceUnreachable
from service.client.image_files import error_of_image, read_image
from service.client.pages import read_pages
from service.client.patience import Patience
from service.client.responses import JSON_HEADERS, job_path, json_body, raise_for_problem, read_answer
from service.rest.schemas import (
    Artifact,
    ArtifactList,
    DryRun,
    EventView,
    JobPage,
    JobSummary,
    JobView,
    LogLine,
    PredictionFile,
    PredictionFiles,
)
from service.states import TERMINAL, JobStatus

URL_VARIABLE = "PYRAMIDION_URL"
DEFAULT_URL = "http://127.0.0.1:8000"

CONNECT_S = 5.0
READ_S = 60.0
LONG_READ_S = 300.0
"""For calls that take long to respond: a dry run, the first prediction of a model."""
SILENCE_S = 45.0
"""A stream that sends at least a ping every 15 s is reopened after this much silence."""
RETRY_S = 1.0
FOLLOW_RETRY_S = 60.0
"""For following a job while the whole service may be restarting."""
RETRY_BROKEN_S = 20.0
"""For a connection that broke after it was established, since the service is probably restarting."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Client:
    """Client of the service at an address, by default `PYRAMIDION_URL`, otherwise port 8000 of this machine.

    It sends the API key of `PYRAMIDION_API_KEY`, or of the file `PYRAMIDION_API_KEY_FILE`, if one of them is set.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        parsed = httpx2.URL(self.url) if self.url.startswith(("http://", "https://")) else None
        if parsed is None or not parsed.host:
            raise ConfigError(FieldProblem(URL_VARIABLE, f"got {self.url!r}; write it as {DEFAULT_URL}"))
        key = find_api_key()
        is_on_loopback = parsed.host in _LOOPBACK
        # Reading the certificates of the system takes 0.03 s, and nothing here uses TLS.
        needs_no_certificates = is_on_loopback and parsed.scheme == "http"
        self._http = httpx2.Client(
            base_url=self.url,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
            # A proxy cannot reach this machine's loopback.
            trust_env=not is_on_loopback,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if needs_no_certificates else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, request: Mapping[str, Any], key: str | None = None) -> JobView:
        """Submit a job, see `JobRequest`; the same key returns the same job. Raises ConfigError for an invalid
        document."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return read_answer(
            JobView, self.call("POST", "/v1/jobs", content=json_body(request), headers=headers | JSON_HEADERS)
        )

    def dry_run(self, request: Mapping[str, Any]) -> DryRun:
        """Return what a job would train; raises ConfigError for an invalid document or invalid data."""
        params = {"dry_run": "true"}
        content = json_body(request)
        return read_answer(
            DryRun,
            self.call("POST", "/v1/jobs", params=params, content=content, headers=JSON_HEADERS, timeout_s=LONG_READ_S),
        )

    def jobs(
        self,
        statuses: Sequence[JobStatus] = (),
        name: str | None = None,
        limit: int = 20,
        kinds: Sequence[str] = (),
    ) -> list[JobSummary]:
        """Return the newest jobs."""
        filters = {"status": [*statuses], "kind": [*kinds], **({} if name is None else {"name": name})}

        def read_page(position: dict[str, Any]) -> JobPage:
            return read_answer(JobPage, self.call("GET", "/v1/jobs", params=filters | position))

        return read_pages(read_page, lambda page: page.jobs, limit)

    def job(self, job_id: str, *, patience_s: float = RETRY_S) -> JobView:
        """Return a job with all details; `patience_s` is the time for a service that may be restarting."""
        return read_answer(JobView, self.call("GET", job_path(job_id), patience_s=patience_s))

    def cancel(self, job_id: str) -> None:
        """Request the cancellation of a job; raises Conflict if it has already ended."""
        self.call("POST", f"{job_path(job_id)}/cancel")

    def results(self, job_id: str) -> dict[str, Any]:
        """Return result.json of a job; each kind of jobs has its own schema."""
        response = self.call("GET", f"{job_path(job_id)}/results")
        result: Any = None
        with suppress(ValueError):
            result = response.json()
        if not isinstance(result, dict) or "schema_version" not in result:
            raise ServiceError(f"{response.url} did not return a result; is result.json of job {job_id} damaged?")
        return result

    def batch_predict(self, model: str, request: Mapping[str, Any], key: str | None = None) -> JobView:
        """Submit a batch prediction, see `BatchPredictionRequest`; the same key returns the same job."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())} | JSON_HEADERS
        path = f"/v1/models/{quote(model, safe='')}/batch-predictions"
        return read_answer(JobView, self.call("POST", path, content=json_body(request), headers=headers))

    def prediction_files(self, job_id: str) -> list[PredictionFile]:
        """Return the files with predictions of a job."""
        return read_answer(PredictionFiles, self.call("GET", f"{job_path(job_id)}/predictions")).files

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return the files of a job's run folder."""
        return read_answer(ArtifactList, self.call("GET", f"{job_path(job_id)}/artifacts")).artifacts

    def predict(self, model: str, alias: str, image: Path, **query: Any) -> dict[str, Any]:
        """Return the prediction of a model for an image file; `query` may have a `threshold`. For several images use
        `service.client.predictions`."""
        answer: dict[str, Any] = self._predict(model, alias, image, **query).json()
        return answer

    def draw(self, model: str, alias: str, image: Path, **query: Any) -> bytes:
        """Return the image with the prediction of a model drawn on it, as PNG; see `predict`."""
        return self._predict(model, alias, image, draw="true", **query).content

    def _predict(self, model: str, alias: str, image: Path, **params: Any) -> httpx2.Response:
        content = read_image(image)
        try:
            return self.post_images(model, {"alias": alias, **params}, [content])
        except ConfigError as error:
            raise error_of_image(image, error) from error

    def post_images(self, model: str, params: Mapping[str, Any], images: Sequence[bytes]) -> httpx2.Response:
        """Return the response to a predict request, see `service.client.predictions`."""
        # The local file name is private and not sent.
        files = [("image", ("image", content)) for content in images]
        path = f"/v1/models/{quote(model, safe='')}/predict"
        return self.call("POST", path, params=params, files=files, timeout_s=LONG_READ_S)

    def log(self, job_id: str, *, attempt: int | None = None, tail: int | None = None) -> Iterator[LogLine]:
        """Yield the lines of an attempt's log, by default of the last attempt."""
        try:
            yield from self._log_lines(job_id, {"attempt": attempt, "tail": tail})
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error

    def follow_log(self, job_id: str, *, attempt: int | None = None, tail: int | None = None) -> Iterator[LogLine]:
        """Yield new lines until the job has ended, even across restarts of the service."""
        self.job(job_id)  # fail at once if the service is not reachable
        line: LogLine | None = None
        wanted: dict[str, Any] = {"attempt": attempt, "tail": tail}
        for _ in self._openings():
            try:
                for line in self._log_lines(job_id, {**wanted, "follow": "true"}, FOLLOW_RETRY_S):
                    yield line
            except httpx2.TransportError:
                pass
            else:
                if self.job(job_id, patience_s=FOLLOW_RETRY_S).status.is_terminal:
                    return
            if line is not None:
                wanted = {"attempt": line.attempt, "after": line.offset}

    def _log_lines(self, job_id: str, params: Mapping[str, Any], patience_s: float = RETRY_S) -> Iterator[LogLine]:
        given = {key: value for key, value in params.items() if value is not None}
        path = f"{job_path(job_id)}/logs"
        with self.stream(path, "application/x-ndjson", given, patience_s=patience_s) as response:
            for line in response.iter_lines():
                yield LogLine.model_validate_json(line)

    def events(self, job_id: str, after: int = 0) -> Iterator[EventView]:
        """Yield each event once until the job has ended, even across restarts of the service."""
        for _ in self._openings():
            try:
                path, headers = f"{job_path(job_id)}/events", {"Last-Event-ID": str(after)}
                with self.stream(path, "text/event-stream", {}, headers, patience_s=FOLLOW_RETRY_S) as response:
                    if response.status_code == HTTPStatus.NO_CONTENT:
                        return
                    for message in httpx2.EventSource(response):
                        if message.data:
                            event = EventView.model_validate_json(message.data)
                            after = event.seq
                            yield event
                            if event.kind == "status" and event.data["to"] in TERMINAL:
                                return
            except httpx2.TransportError:
                continue

    def _openings(self) -> Iterator[None]:
        """Yield before each attempt to open a stream; raises ServiceUnreachable if the service stays unreachable."""
        while True:
            yield
            time.sleep(0.2)
            self.call("GET", "/livez", patience_s=FOLLOW_RETRY_S)

    @contextmanager
    def stream(
        self,
        path: str,
        accept: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        patience_s: float = RETRY_S,
    ) -> Iterator[httpx2.Response]:
        """Yield a response whose body has not been read yet.

        Raises:
            ServiceError: the service rejects the request.
            httpx2.TransportError: the connection cannot be established, or breaks.
        """
        timeout, patience = httpx2.Timeout(SILENCE_S, connect=CONNECT_S), Patience()
        sent = {**(headers or {}), "Accept": accept}
        while True:
            with self._http.stream("GET", path, params=params, headers=sent, timeout=timeout) as response:
                if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and patience.wait(patience_s):
                    continue
                if response.is_error:
                    response.read()
                raise_for_problem(response)
                yield response
                return

    def call(
        self, method: str, path: str, *, timeout_s: float = READ_S, patience_s: float = RETRY_S, **request: Any
    ) -> httpx2.Response:
        """Return the response; raises an error of `service.client.errors`, or ConfigError for an invalid request."""
        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
        patience, is_repeated = Patience(), False
        while True:
            try:
                response = self._http.request(method, path, timeout=timeout, **request)
            except (httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
                raise ServiceError(f"the service at {self.url} did not answer within {timeout_s:.0f} s") from error
            except httpx2.TransportError as error:
                was_connected = isinstance(error, httpx2.ReadError | httpx2.WriteError | httpx2.RemoteProtocolError)
                if not patience.wait(max(patience_s, RETRY_BROKEN_S) if was_connected else patience_s):
                    raise self.unreachable(error) from error
                is_repeated |= was_connected
            else:
                is_busy = response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
                if method == "GET" and is_busy and patience.wait(patience_s):
                    continue
                if method == "DELETE" and is_repeated and response.status_code == HTTPStatus.NOT_FOUND:
                    return response  # the first request has deleted it, and its answer was lost
                raise_for_problem(response)
                return response

    def unreachable(self, error: Exception) -> ServiceUnreachable:
        """Return the error of a service that does not answer."""
        why = f" ({error})" if str(error) else ""
        return ServiceUnreachable(
            f"no service answers at {self.url}{why}; start one with `pyramidion serve`, or set {URL_VARIABLE} to the "
            "address of a running one"
        )
