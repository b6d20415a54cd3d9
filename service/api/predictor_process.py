"""The predictor as a child process of the API. Torch-free.

It is started on first use, replaced when it has died or hangs, and stopped when it has been idle for a while.
"""

import asyncio
import logging
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.api.mlflow_waits import environment_without_short_waits
from service.api.predictor_connection import PredictorConnection
from service.child_process import child_environment, python_command
from service.inherited_environment import inherited_environment
from service.predictor_address import PredictorAddress
from service.settings import Settings
from service.settings_secrets import SECRET_SETTINGS

_GRACE_S = 5.0
_POLL_S = 0.05
_BACKLOG = 1024

logger = logging.getLogger(__name__)


class OwnPredictor:
    """The predictor that the API starts and stops.

    Use it only in the event loop of the main thread: the predictor dies with the thread that starts it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: _Process | None = None
        self._num_running = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @contextmanager
    def in_use(self) -> Iterator[PredictorConnection]:
        """Yield connections to the running process, which is started if necessary.

        The process is stopped when it has not been used for `predict_idle_s`, which frees its memory.
        """
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._num_running += 1
        try:
            yield self._running().connection
        finally:
            self._num_running -= 1
            if self._num_running == 0:
                loop = asyncio.get_running_loop()
                self._idle_timer = loop.call_later(self._settings.predict_idle_s, self._stop_idle)

    def explain(self, connection: PredictorConnection, error: Exception) -> str:
        """Return the reason for a broken connection; its process is replaced by the next use."""
        if self._process is not None and self._process.connection is connection:
            logger.warning("the connection to the predictor (pid %d) broke: %r", self._process.pid, error)
            self._process.kill()
        return "the predictor has exited; it is restarted by the next request"

    async def close(self) -> None:
        """Stop the process."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._stop()
        await asyncio.gather(*self._stopping)

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
                self._stop()
            self._process = _Process(self._settings)
        return self._process


class _Process:
    """One predictor process, its health checks, and the connections to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_killed = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            self._descriptor = _bind_unnamed(listening)
            listening.listen(_BACKLOG)
            inherited = inherited_environment(environment_without_short_waits(), settings.trainer_variables)
            self._popen = subprocess.Popen(
                python_command(
                    "service.predictor.process", "--fd", str(listening.fileno()), "--parent", str(os.getpid())
                ),
                env=child_environment({**inherited, **settings.environment(without=SECRET_SETTINGS)}),
                pass_fds=[listening.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C must reach only the parent, which stops this process in the right order.
                start_new_session=True,
            )
        self.connection = PredictorConnection(PredictorAddress(f"/proc/self/fd/{self._descriptor}"))
        self._watch = asyncio.create_task(self._watch_health())

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_alive(self) -> bool:
        return not self._is_killed and self._popen.poll() is None

    def kill(self) -> None:
        """Kill the process, and send it no more requests while it dies."""
        self._popen.kill()
        self._is_killed = True

    async def stop(self) -> None:
        """Stop the process; kill it after the grace period."""
        self._watch.cancel()
        await self.connection.close()
        os.close(self._descriptor)
        self._popen.terminate()
        try:
            await asyncio.wait_for(self._exit(), _GRACE_S)
        except TimeoutError:
            self._popen.kill()
            await self._exit()

    async def _exit(self) -> None:
        while self._popen.poll() is None:
            await asyncio.sleep(_POLL_S)

    async def _watch_health(self) -> None:
        """Kill the process when it hangs: requests in progress fail, and the next one starts another process."""
        timeout_s = self._settings.predictor_start_timeout_s
        while self.is_alive():
            # A second check proves that it was not this process, or the machine, that was stopped meanwhile.
            if not (await self.connection.is_healthy(timeout_s) or await self._is_healthy_now()):
                if self.is_alive():
                    logger.error("the predictor (pid %d) does not answer its health checks; killing it", self.pid)
                    self.kill()
                return
            timeout_s = self._settings.predictor_check_timeout_s
            await asyncio.sleep(self._settings.predictor_check_s)

    async def _is_healthy_now(self) -> bool:
        return await self.connection.is_healthy(self._settings.predictor_check_timeout_s)


def _bind_unnamed(listening: socket.socket) -> int:
    """Bind a Unix socket, and return a descriptor of its file, which no longer has a name in any folder.

    Nothing remains in the file system when this process is killed. `/proc/self/fd/<descriptor>` is its path.
    """
    with tempfile.TemporaryDirectory(prefix="pyramidion-") as folder:
        path = Path(folder) / "predictor.sock"
        listening.bind(str(path))
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
