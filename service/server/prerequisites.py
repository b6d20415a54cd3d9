"""The requirements of a service before its processes start: folders, the lock of its root, and the listening socket."""

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from service.backup.unfinished import require_finished
from service.server.children import ServeError
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


def check_access(settings: Settings) -> None:
    """Raise ConfigError if other machines could use the API without a key."""
    try:
        is_local = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_local = False
    if not is_local and not settings.require_keys:
        problem = (
            f"got {settings.host!r}, at which other machines reach the service; require a key from every client with "
            "--require-keys true, and create keys with `pyramidion keys create`; or listen at 127.0.0.1"
        )
        raise ConfigError(FieldProblem("--host or PYRAMIDION_HOST", problem))


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
                raise ServeError(
                    f"cannot listen on {host}:{port} ({error.strerror}); choose another --host, another --port, or the "
                    "port 0 for any free one"
                ) from error
        listener.listen(BACKLOG)
        yield listener
