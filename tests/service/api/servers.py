"""The API in this process, and as a separate process."""

import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from service.api.app import create_app
from service.api.process import ApiServer
from service.child_process import child_environment, python_command
from service.settings import Settings
from tests.service.waiting import TIMEOUT_S, wait_until

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of the loopback interface: reading the certificates of the system takes 0.03 s for each client."""


@contextmanager
def serving(settings: Settings) -> Iterator[httpx2.Client]:
    """Run the application in a thread of this process, and yield a client for it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = ApiServer(create_app(settings), settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server's start")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S, verify=NO_TLS) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def serving_models(settings: Settings) -> Iterator[httpx2.Client]:
    """As `serving`, with the model registry of the root and time for a predictor to start, with one thread."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        environment.setenv("OMP_NUM_THREADS", "1")
        with serving(settings) as client:
            client.timeout = httpx2.Timeout(120)
            yield client


@contextmanager
def api_process(settings: Settings, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx2.Client]]:
    """Start the real process and yield it with a client; requests wait until it accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor = listener.fileno()
        with log.open("ab") as output:
            process = subprocess.Popen(
                python_command("service.api.process", "--fd", str(descriptor)),
                env={**child_environment(os.environ), **settings.environment()},
                pass_fds=[descriptor],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx2.Client(base_url=url, timeout=TIMEOUT_S, verify=NO_TLS) as client:
                yield process, client
        finally:
            process.kill()
            process.wait()


class LiveApi:
    """The real API process on a listening socket that outlives it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings, self._log = settings, log
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=TIMEOUT_S, verify=NO_TLS)
        self.start()

    def start(self) -> None:
        descriptor = self._listener.fileno()
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                python_command("service.api.process", "--fd", str(descriptor)),
                env={**child_environment(os.environ), **self._settings.environment()},
                pass_fds=[descriptor],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Terminate the process, and wait until it has exited."""
        self.process.terminate()
        # uvicorn re-raises the signal after its shutdown.
        assert self.process.wait(TIMEOUT_S) in (0, -signal.SIGTERM), self._log.read_text()

    def close(self) -> None:
        self.client.close()
        self.kill()
        self._listener.close()

    def log(self) -> str:
        return self._log.read_text()
