"""`pyramidion serve`: the process that starts the service's other processes, and starts them again when they die.

It is kept small so that nothing in it can fail: no FastAPI, no SQLAlchemy. The listening socket is its own, so that
no attempt to connect is lost while the API process is started again.
"""

import contextlib
import errno
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, FieldProblem, PyramidionError
from service.child_process import child_environment, python_command
from service.executors.registry import check_executor
from service.settings import Settings
from service.signals import Signals
from service.states import ACTIVE

HOST = "127.0.0.1"
BACKLOG = 1024
QUICK_END_S = 10.0
"""A process that ends sooner than this after its start is started again later and later."""
MAX_QUICK_ENDS = 5
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0
STOP_S = 8.0
"""What processes have to end by themselves; they are killed then."""
NOT_READY_S = 15.0
PORT_FREE_S = 2.0
"""What the processes of a service that was killed a moment ago have to let go of its port."""

CONFIG_ERROR = ConfigError.exit_code


class ServeError(PyramidionError):
    """The service cannot be started here, or one of its processes cannot be kept alive."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def serve(settings: Settings) -> int:
    """Run the service until SIGTERM, SIGINT or SIGHUP, and return 0; jobs go on without it.

    Raises:
        ConfigError: a folder is not there, or cannot be made.
        ServeError: the root is served already, the port is taken, a process of the service cannot be kept alive.
    """
    _check_folders(settings)
    check_executor(settings)
    with _locked(settings.root) as lock, _listening(settings.port) as listener:
        port = listener.getsockname()[1]
        # A full disk takes no name, but keeps nobody from freeing it by deleting jobs.
        with contextlib.suppress(OSError):
            lock.write(f"process {os.getpid()} at http://{HOST}:{port}".encode())
        environment = child_environment({**os.environ, **settings.model_copy(update={"port": port}).environment()})
        api = python_command("service.api.process", "--fd", str(listener.fileno()))
        children = (
            Child("API", api, environment, (listener.fileno(),)),
            Child("supervisor", python_command("service.supervisor.process"), environment),
        )
        # Threads must not start children (they would die with it), but may look whether they answer.
        threading.Thread(target=_tell_when_ready, args=(port, settings.root), daemon=True).start()
        with Signals() as signals:
            try:
                while not signals.stops:
                    for child in children:
                        child.tend()
                    signals.wait(min(child.due_in_s() for child in children))
                going_on = _count_active(port)
            finally:
                _stop(children, signals)
    say(f"stopped; {going_on}")
    return 0


class Child:
    """A process of the service, started again whenever it has ended."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], fds: Sequence[int] = ()):
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command, self._environment, self._fds = command, environment, fds
        self._started = 0.0
        self._due = 0.0
        self._quick_ends = 0

    def tend(self) -> None:
        """Start the process where it is time to, and take note of its end; raises ServeError where it ends again and
        again, or says that its settings are wrong."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.process = None
            self._note_end(code)
        if self.process is None and self.due_in_s() <= 0:
            # Its own group: Ctrl-C is for this process, which then ends the others in order.
            self.process = subprocess.Popen(
                self._command, env=self._environment, pass_fds=self._fds, stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(), process_group=0,
            )  # fmt: skip
            self._started = time.monotonic()

    def due_in_s(self) -> float:
        """Return the seconds until `tend` has something to do, as far as is known."""
        return 3600.0 if self.process is not None else max(0.0, self._due - time.monotonic())

    def _note_end(self, code: int) -> None:
        lived_s = time.monotonic() - self._started
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with {code}"
        told = f"the {self.name} process {how} after {lived_s:.1f} s"
        if code == CONFIG_ERROR:
            raise ServeError(f"{told}: it says what is wrong", code)
        # A process that was killed did not fail by itself, and is worth another try however often that happens.
        was_killed = code == -signal.SIGKILL
        self._quick_ends = self._quick_ends + (not was_killed) if lived_s < QUICK_END_S else 0
        if self._quick_ends >= MAX_QUICK_ENDS:
            raise ServeError(f"{told}, {self._quick_ends} times in a row; it says why", code if code > 0 else 1)
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self._quick_ends - 1)) if self._quick_ends else 0.0
        self._due = time.monotonic() + delay_s
        say(f"{told}; it is started again{f' in {delay_s:.1f} s' if delay_s else ''}")


def _stop(children: Sequence[Child], signals: Signals) -> None:
    """End all children: asked first, killed after `STOP_S` or at a second wish to stop."""
    alive = [child.process for child in children if child.process is not None]
    for process in alive:
        process.terminate()
    deadline, stops = time.monotonic() + STOP_S, signals.stops
    while any(process.poll() is None for process in alive):
        if time.monotonic() > deadline or signals.stops > stops:
            for process in alive:
                process.kill()
        signals.wait(0.2)


def _check_folders(settings: Settings) -> None:
    problems = [
        FieldProblem(place, f"there is no folder {str(path)!r}; make it, or name another")
        for place, paths in (
            ("--data-root or PYRAMIDION_DATA_ROOTS", settings.data_roots),
            ("--weights-root or PYRAMIDION_WEIGHTS_ROOTS", settings.weights_roots),
        )
        for path in paths
        if not path.is_dir()
    ]
    problems += [
        FieldProblem(
            "--data-root, --weights-root", f"got {str(path)!r}; {os.pathsep!r} parts folders here, so name a link to it"
        )
        for path in (*settings.data_roots, *settings.weights_roots)
        if os.pathsep in str(path)
    ]
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problems.append(FieldProblem("--root", f"cannot make {str(settings.root)!r} ({error.strerror}); name another"))
    if problems:
        raise ConfigError(problems)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[Any]:
    """Hold `serve.lock` of the root; its content, to be written, is told to whoever comes second."""
    try:
        lock = (root / "serve.lock").open("a+b", buffering=0)
    except OSError as error:
        raise ConfigError(FieldProblem("--root", f"cannot write in {str(root)!r} ({error.strerror})")) from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().decode() or "another process"
            raise ServeError(f"{root} is served already, by {holder}; stop that one, or name another --root") from None
        lock.truncate(0)
        yield lock


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Listen on the loopback."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + PORT_FREE_S
        while True:
            try:
                listener.bind((HOST, port))
                break
            except OSError as error:
                if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise ServeError(
                    f"cannot listen on {HOST}:{port} ({error.strerror}); name another --port, or 0 for any that is free"
                ) from error
        listener.listen(BACKLOG)
        yield listener


def _tell_when_ready(port: int, root: Path) -> None:
    started, is_told = time.monotonic(), False
    while True:
        status, answer = _get(port, "/readyz")
        if status == 200:
            print(f"serving http://{HOST}:{port}, root {root}", flush=True)
            return
        if not is_told and time.monotonic() - started > NOT_READY_S:
            say(f"not ready after {NOT_READY_S:.0f} s: {answer.decode(errors='replace') or 'the API does not answer'}")
            is_told = True
        time.sleep(0.02)


def _count_active(port: int) -> str:
    """Say how many jobs go on."""
    statuses = "&".join(f"status={status}" for status in sorted(ACTIVE))
    status, answer = _get(port, f"/v1/jobs?limit=100&{statuses}", timeout_s=1.0)
    if status != 200:
        return "jobs that run go on, and the next `pyramidion serve` on this root takes them up"
    page = json.loads(answer)
    count = f"{len(page['jobs'])}{' or more' if page['next_cursor'] else ''}"
    if count == "0":
        return "no job was running"
    return f"{count} running job(s) go on, and the next `pyramidion serve` on this root takes them up"


def _get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Return status and body; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def say(text: str) -> None:
    """Tell people what happens, in a line."""
    print(f"pyramidion serve: {text}", file=sys.stderr, flush=True)
