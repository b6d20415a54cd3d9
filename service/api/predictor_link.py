"""The connection to the predictor process. Torch-free.

The process is started on first use, restarted after a crash, and stopped when it has been idle for a while.
"""

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx2

from service.api.mlflow_waits import environment_without_short_waits
from service.child_process import child_environment, python_command
from service.rest.problems import Problem
from service.settings import Settings

_GRACE_S = 5.0
_BACKLOG = 1024

logger = logging.getLogger(__name__)


class PredictorLink:
    """Sends images to the predictor and returns its responses.

    Use it only in the event loop of the main thread: the predictor dies with the thread that starts it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: _Process | None = None
        self._num_admitted = 0
        self._num_running = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Occupy a place in the queue while a request is processed.

        Raises:
            Problem: 503 if the queue is full.
        """
        if self._num_admitted >= self._settings.predict_queue_size:
            raise _unavailable(
                "Too many predictions",
                f"{self._num_admitted} predictions are in progress, which is the limit; send the request again later",
            )
        self._num_admitted += 1
        try:
            yield
        finally:
            self._num_admitted -= 1

    async def predict(self, query: Mapping[str, str], image: bytes) -> httpx2.Response:
        """Return the complete response of the predictor; the first call waits for it to start.

        Args:
            query: the model and the form of the response, see `service.predictor.app`.
            image: content of the image file.

        Raises:
            Problem: 503 if the predictor has died or did not respond in time.
        """
        with self._in_use() as process:
            return await self._ask(process, query, image)

    async def close(self) -> None:
        """Stop the predictor."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._stop()
        await asyncio.gather(*self._stopping)

    async def _ask(self, process: "_Process", query: Mapping[str, str], image: bytes) -> httpx2.Response:
        url = f"http://predictor/predict?{urlencode(query)}"
        request = httpx2.Request("POST", url, content=image)
        try:
            async with asyncio.timeout(self._settings.predict_timeout_s):
                response = await process.transport.handle_async_request(request)
                try:
                    await response.aread()
                finally:
                    await response.aclose()
                return response
        except TimeoutError:
            detail = (
                f"the predictor did not respond within {self._settings.predict_timeout_s:g} s; send the request again"
            )
            raise _unavailable("The predictor took too long", detail) from None
        except httpx2.TransportError as error:
            process.kill()
            logger.warning("the connection to the predictor (pid %d) broke: %r", process.pid, error)
            raise _unavailable(
                "The predictor has exited", "it is restarted by the next request; send the request again"
            ) from None

    @contextmanager
    def _in_use(self) -> Iterator["_Process"]:
        """Yield the process; stop it when it has not been used for `predict_idle_s`, which frees its memory."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._num_running += 1
        try:
            yield self._running()
        finally:
            self._num_running -= 1
            if self._num_running == 0:
                loop = asyncio.get_running_loop()
                self._idle_timer = loop.call_later(self._settings.predict_idle_s, self._stop_idle)

    def _stop_idle(self) -> None:
        if self._process is not None:
            logger.info("the predictor (pid %d) is idle; stopping it until the next request", self._process.pid)
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            task = asyncio.create_task(process.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def _running(self) -> "_Process":
        # There is no await, so that concurrent requests start a single process.
        if self._process is None or not self._process.is_alive():
            if self._process is not None:
                logger.warning("the predictor (pid %d) has exited; starting another one", self._process.pid)
                self._process.forget()
            self._process = _Process(self._settings)
        return self._process


class _Process:
    """One predictor process, and the connections to it."""

    def __init__(self, settings: Settings) -> None:
        self._is_killed = False
        # In the system's temporary folder, since the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pyramidion-"))
        path = str(self._folder / "predictor.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(path)
            listening.listen(_BACKLOG)
            self._popen = subprocess.Popen(
                python_command(
                    "service.predictor.process", "--fd", str(listening.fileno()), "--parent", str(os.getpid())
                ),
                env=child_environment({**environment_without_short_waits(), **settings.environment()}),
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C must reach only the parent, which stops this process in the right order.
                start_new_session=True,
            )
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=settings.predict_queue_size)
        self.transport = httpx2.AsyncHTTPTransport(uds=path, limits=limits)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_alive(self) -> bool:
        return not self._is_killed and self._popen.poll() is None

    def kill(self) -> None:
        """Kill a process that has broken a connection, and send it no more requests while it dies."""
        self._popen.kill()
        self._is_killed = True

    def forget(self) -> None:
        """Remove the files of a process that has exited."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def stop(self) -> None:
        """Stop the process; kill it after the grace period."""
        await self.transport.aclose()
        self._popen.terminate()
        try:
            await asyncio.to_thread(self._popen.wait, _GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            await asyncio.to_thread(self._popen.wait)
        self.forget()


def _unavailable(title: str, detail: str) -> Problem:
    return Problem(503, title, detail, headers={"Retry-After": "1"})
