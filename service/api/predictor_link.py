"""The way to the predictor, a process of its own: started when first needed, and again when it has died. Torch-free."""

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

from service.child_process import child_environment, python_command
from service.rest.problems import Problem
from service.settings import Settings

_GRACE_S = 5.0
_BACKLOG = 1024

logger = logging.getLogger(__name__)


class PredictorLink:
    """Hands images to the predictor, and its answers back.

    To be used in the event loop of the main thread: the predictor ends with the thread that starts it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: _Process | None = None
        self._num_admitted = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Take a place in the queue, for as long as a request is under way.

        Raises:
            Problem: 503, all places are taken.
        """
        if self._num_admitted >= self._settings.predict_queue_size:
            raise _unavailable(
                "Too many predictions",
                f"{self._num_admitted} predictions are under way, and more are not taken at once; send it again later",
            )
        self._num_admitted += 1
        try:
            yield
        finally:
            self._num_admitted -= 1

    async def predict(self, query: Mapping[str, str], image: bytes) -> httpx2.Response:
        """Return what the predictor answers, whole; the first call waits for it to start.

        Args:
            query: which model and what form of answer, see `service.predictor.app`.
            image: bytes of the file.

        Raises:
            Problem: 503, the predictor has died or takes too long.
        """
        process = self._running()
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
            detail = f"the predictor has not answered within {self._settings.predict_timeout_s:g} s; send it again"
            raise _unavailable("The predictor takes too long", detail) from None
        except httpx2.TransportError as error:
            process.kill()
            logger.warning("the predictor (pid %d) is gone: %r", process.pid, error)
            raise _unavailable("The predictor has ended", "it starts anew with the next request") from None

    async def close(self) -> None:
        """End the predictor."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    def _running(self) -> "_Process":
        # Nothing is awaited here, so that requests which come together start one process.
        if self._process is None or not self._process.is_alive():
            if self._process is not None:
                logger.warning("the predictor (pid %d) has ended; starting another", self._process.pid)
                self._process.forget()
            self._process = _Process(self._settings)
        return self._process


class _Process:
    """One predictor process, and the connections to it."""

    def __init__(self, settings: Settings) -> None:
        self._is_killed = False
        # Below the system's folder for temporary files: a socket's path has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="pyramidion-"))
        path = str(self._folder / "predictor.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(path)
            listening.listen(_BACKLOG)
            self._popen = subprocess.Popen(
                python_command(
                    "service.predictor.process", "--fd", str(listening.fileno()), "--parent", str(os.getpid())
                ),
                env=child_environment({**os.environ, **settings.environment()}),
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for the parent, which ends this process in its own time.
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
        """End a process that has broken a connection; it is asked nothing more, however long it takes to die."""
        self._popen.kill()
        self._is_killed = True

    def forget(self) -> None:
        """Remove what a process that has ended leaves."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def stop(self) -> None:
        """End the process, if need be by force."""
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
