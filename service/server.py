"""`pyramidion serve`: the process that starts the other processes of the service, and restarts them when they die.

It is kept small so that little can fail: no FastAPI, no SQLAlchemy. It owns the listening socket, so no connection is
lost while the API process restarts.
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

from pipelines.base.errors import ConfigError, ExitCode, FieldProblem, PyramidionError
from service.child_process import child_environment, python_command
from service.executors.registry import check_executor
from service.settings import Settings
from service.signals import Signals
from service.states import ACTIVE

HOST = "127.0.0.1"
BACKLOG = 1024
QUICK_END_S = 10.0
"""A process that exits sooner than this after its start is restarted after increasing pauses."""
MAX_QUICK_ENDS = 5
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0
STOP_S = 8.0
"""Time that the processes have to exit before they are killed."""
NOT_READY_S = 15.0
PORT_FREE_S = 2.0
"""Time that the processes of a service that was just killed have to release its port."""


class ServeError(PyramidionError):
    """The service cannot be started, or one of its processes exits repeatedly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def serve(settings: Settings) -> int:
    """Run the service until SIGTERM, SIGINT or SIGHUP, and return 0; running jobs continue without it.

    Raises:
        ConfigError: a folder is missing or cannot be created, or the executor cannot be used.
        ServeError: another service uses the root or the port, or a process of the service exits repeatedly.
    """
    check_executor(settings)
    _check_folders(settings)
    with _locked(settings.root) as lock, _listening(settings.port) as listener:
        port = listener.getsockname()[1]
        # On a full disk the holder is not written, but the service works: users can delete jobs.
        with contextlib.suppress(OSError):
            lock.write(f"process {os.getpid()} at http://{HOST}:{port}".encode())
        environment = child_environment({**os.environ, **settings.model_copy(update={"port": port}).environment()})
        api = python_command("service.api.process", "--fd", str(listener.fileno()))
        children = (
            Child("API", api, environment, (listener.fileno(),)),
            Child("supervisor", python_command("service.supervisor.process"), environment),
        )
        # A thread must not start children, which would die with it, but it may poll them.
        threading.Thread(target=_announce_when_ready, args=(port, settings.root), daemon=True).start()
        with Signals() as signals:
            try:
                while not signals.stops:
                    for child in children:
                        child.keep_running()
                    signals.wait(min(child.due_in_s() for child in children))
                still_running = _count_active(port)
            finally:
                _stop(children, signals)
    report(f"stopped; {still_running}")
    return 0


class Child:
    """A process of the service, which is restarted whenever it exits."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], fds: Sequence[int] = ()):
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command, self._environment, self._fds = command, environment, fds
        self._started = 0.0
        self._due = 0.0
        self._quick_ends = 0

    def keep_running(self) -> None:
        """Start the process if it is due, and record its exit.

        Raises:
            ServeError: it exits repeatedly, or its settings are invalid.
        """
        if self.process is not None and (code := self.process.poll()) is not None:
            self.process = None
            self._record_exit(code)
        if self.process is None and self.due_in_s() <= 0:
            # In its own group, because Ctrl-C must reach only this process, which stops the others in order.
            self.process = subprocess.Popen(
                self._command, env=self._environment, pass_fds=self._fds, stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(), process_group=0,
            )  # fmt: skip
            self._started = time.monotonic()

    def due_in_s(self) -> float:
        """Return the seconds until `keep_running` must be called, unless a signal arrives first."""
        return 3600.0 if self.process is not None else max(0.0, self._due - time.monotonic())

    def _record_exit(self, code: int) -> None:
        lived_s = time.monotonic() - self._started
        how = f"was terminated by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        end = f"the {self.name} process {how} after {lived_s:.1f} s"
        if code == ExitCode.INVALID:
            raise ServeError(f"{end}; see its message above", code)
        # A killed process has not failed, so it is restarted no matter how often that happens.
        was_killed = code == -signal.SIGKILL
        self._quick_ends = self._quick_ends + (not was_killed) if lived_s < QUICK_END_S else 0
        if self._quick_ends >= MAX_QUICK_ENDS:
            raise ServeError(
                f"{end}, {self._quick_ends} times in a row; see its messages above", code if code > 0 else 1
            )
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self._quick_ends - 1)) if self._quick_ends else 0.0
        self._due = time.monotonic() + delay_s
        report(f"{end}; restarting it{f' in {delay_s:.1f} s' if delay_s else ''}")


def _stop(children: Sequence[Child], signals: Signals) -> None:
    """Stop all children: terminate them, and kill them after `STOP_S` or at a second request to stop."""
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
        FieldProblem(place, f"the folder {str(path)!r} does not exist; create it or choose another one")
        for place, paths in (
            ("--data-root or PYRAMIDION_DATA_ROOTS", settings.data_roots),
            ("--weights-root or PYRAMIDION_WEIGHTS_ROOTS", settings.weights_roots),
        )
        for path in paths
        if not path.is_dir()
    ]
    problems += [
        FieldProblem(
            "--data-root, --weights-root",
            f"got {str(path)!r}; {os.pathsep!r} separates folders here, so pass a symbolic link to this folder",
        )
        for path in (*settings.data_roots, *settings.weights_roots)
        if os.pathsep in str(path)
    ]
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problems.append(
            FieldProblem("--root", f"cannot create {str(settings.root)!r} ({error.strerror}); choose another folder")
        )
    if problems:
        raise ConfigError(problems)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[Any]:
    """Hold `serve.lock` of the root; yield the file, whose content a second service reports."""
    try:
        lock = (root / "serve.lock").open("a+b", buffering=0)
    except OSError as error:
        raise ConfigError(
            FieldProblem(
                "--root",
                f"cannot write in {str(root)!r} ({error.strerror}); change its permissions or choose another folder",
            )
        ) from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().decode() or "another process"
            raise ServeError(
                f"{root} is already served by {holder}; stop that service, or choose another --root"
            ) from None
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
                    f"cannot listen on {HOST}:{port} ({error.strerror}); choose another --port, or 0 for any free port"
                ) from error
        listener.listen(BACKLOG)
        yield listener


def _announce_when_ready(port: int, root: Path) -> None:
    started, is_reported = time.monotonic(), False
    while True:
        status, answer = _get(port, "/readyz")
        if status == 200:
            print(f"serving http://{HOST}:{port}, root {root}", flush=True)
            return
        if not is_reported and time.monotonic() - started > NOT_READY_S:
            report(
                f"not ready after {NOT_READY_S:.0f} s: {answer.decode(errors='replace') or 'the API does not answer'}"
            )
            is_reported = True
        time.sleep(0.02)


def _count_active(port: int) -> str:
    """Return a sentence with the number of jobs that continue."""
    statuses = "&".join(f"status={status}" for status in sorted(ACTIVE))
    status, answer = _get(port, f"/v1/jobs?limit=100&{statuses}", timeout_s=1.0)
    if status != 200:
        return "running jobs continue, and the next `pyramidion serve` on this root adopts them"
    page = json.loads(answer)
    count = f"{len(page['jobs'])}{' or more' if page['next_cursor'] else ''}"
    if count == "0":
        return "no job was running"
    return f"{count} running job(s) continue, and the next `pyramidion serve` on this root adopts them"


def _get(port: int, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Return status and body; the status is 0 if there is no response."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def report(text: str) -> None:
    """Print a line about an event of the service to stderr."""
    print(f"pyramidion serve: {text}", file=sys.stderr, flush=True)
