"""The requirements of a service before its processes start: folders, the lock of its root, and the listening socket."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from service.backup.unfinished import require_finished
from service.child_process import python_command
from service.server.children import ServeError, report
from service.settings import Settings

BACKLOG = 1024
PORT_FREE_S = 2.0
"""Time that the processes of a service that was just killed have to release its port."""


def check_folders(settings: Settings) -> None:
    """Raise ConfigError if a folder of the settings is missing or cannot be created, or if the root is incomplete."""
    require_finished(settings.root)
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
def locked(root: Path) -> Iterator[Any]:
    """Hold `serve.lock` of the root; yield the file, whose content a second service reports.

    Raises:
        ConfigError: the root is not writable, or its file system has no locks.
        ServeError: another service holds the lock.
    """
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
        except (BlockingIOError, PermissionError):
            lock.seek(0)
            holder = lock.read().decode() or "another process"
            raise ServeError(
                f"{root} is already served by {holder}; stop that service, or choose another --root"
            ) from None
        except OSError as error:
            raise ConfigError(
                FieldProblem("--root", f"cannot lock a file in {str(root)!r} ({error.strerror}); choose a local folder")
            ) from error
        lock.truncate(0)
        yield lock


def check_access(settings: Settings, environment: Mapping[str, str]) -> None:
    """Raise ConfigError if other machines could use the API without a key, or nobody could use it.

    Args:
        environment: of the processes of the service.
    """
    if settings.is_local:
        if settings.require_keys is False:
            report("every client on this machine may do everything without a key, because of --require-keys false")
        return
    if settings.require_keys is None and (reason := _why_no_key(environment)) is not None:
        problem = f"{reason}; create one with `pyramidion keys create`, then start again; or listen at 127.0.0.1"
    elif settings.require_keys is False:
        problem = "clients need a key there; omit --require-keys false, or listen at 127.0.0.1"
    else:
        return
    place = "--host or PYRAMIDION_HOST"
    reached = f"got {settings.host!r}, at which other machines reach the service"
    raise ConfigError(FieldProblem(place, f"{reached}: {problem}"))


def _why_no_key(environment: Mapping[str, str]) -> str | None:
    """Return None if the service has a key, otherwise the reason why none was found."""
    # In a process of its own, so that this one stays small.
    command = python_command("service.cli", "keys", "list", "--json")
    found = subprocess.run(command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if found.returncode:
        return f"no key was found ({found.stderr.strip().removeprefix('error: ') or found.returncode})"
    return None if json.loads(found.stdout) else "it has no key"


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Listen at the address of the API; raises ServeError if that is not possible."""
    host, port = settings.host, settings.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + PORT_FREE_S
        while True:
            try:
                listener.bind((host, port))
                break
            except OSError as error:
                if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise _cannot_listen(settings, error.strerror or str(error)) from error
            except TypeError as error:  # Python's error for a name that it cannot encode
                raise _cannot_listen(settings, "the name of the host is invalid") from error
        listener.listen(BACKLOG)
        yield listener


def _cannot_listen(settings: Settings, reason: str) -> ServeError:
    return ServeError(
        f"cannot listen on {settings.host}:{settings.port} ({reason}); choose another --host, another --port, or the "
        "port 0 for any free one"
    )
