"""Checks of the root of a service, and of its API as a client sees it."""

import getpass
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.base.errors import DISK_FULL_ERRNOS
from service.backup.unfinished import is_unfinished
from service.disk_space import DiskAlmostFull, require_free_space
from service.doctor.findings import CheckResult
from service.server.health import get
from service.settings import Settings

MAX_SKEW_S = 60.0
MAKE_SPACE = "delete jobs or data sets, run `pyramidion gc`, or enlarge the disk"


def root(settings: Settings) -> Iterator[CheckResult]:
    """Check that the root can be written, and the disk has free space."""
    path = settings.root
    if not os.access(path, os.F_OK):  # unlike `Path.exists`, without an error below a folder that may not be read
        parent = next(folder for folder in path.parents if os.access(folder, os.F_OK))
        if os.access(parent, os.W_OK | os.X_OK):
            yield CheckResult("root", "ok", f"{path} does not exist yet; `pyramidion serve` creates it")
        else:
            yield CheckResult("root", "failed", f"{path} does not exist", f"create it, or let {parent} be written")
        return
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
            file.flush()
            skew_s = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            yield CheckResult("root", "failed", f"the disk of {path} is full ({error.strerror})", MAKE_SPACE)
        else:
            remedy = f"let the user {_user()} of the service write it (chown, chmod), or choose another --root"
            yield CheckResult("root", "failed", f"{path} cannot be written ({error.strerror})", remedy)
        return
    if is_unfinished(path):
        remedy = "run the same `pyramidion restore` again"
        yield CheckResult("root", "failed", f"a restore into {path} has not finished", remedy)
    elif foreign := [entry for entry in sorted(path.iterdir()) if not os.access(entry, _needed_access(entry))]:
        detail = f"{foreign[0]} cannot be written by the user {_user()}: its owner has the user id {_owner(foreign[0])}"
        remedy = f"run `chown -R {_user()} {path}`, and run all commands of pyramidion as this user"
        yield CheckResult("root", "failed", detail, remedy)
    else:
        yield CheckResult("root", "ok", f"{path} is writable")
    try:
        yield CheckResult("disk space", "ok", f"{require_free_space(settings) >> 20} MiB are free")
    except DiskAlmostFull as error:
        yield CheckResult("disk space", "failed", str(error).partition(";")[0], MAKE_SPACE)
    if abs(skew_s) > MAX_SKEW_S:
        remedy = "let both machines synchronize their clocks (NTP)"
        yield CheckResult("clock", "warning", f"the clock of the file server differs by {skew_s:.0f} s", remedy)


def _needed_access(entry: Path) -> int:
    return os.R_OK | os.W_OK | (os.X_OK if entry.is_dir() else 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, the user id may have no name
        return str(os.getuid())


def _owner(path: Path) -> int:
    return path.lstat().st_uid


def processes(settings: Settings) -> Iterator[CheckResult]:
    """Check whether the service runs and is ready."""
    status, answer = get(settings, "/readyz")
    if status == 200:
        yield CheckResult("service", "ok", f"{settings.url_of_api} is ready")
    elif status == 0:
        remedy = "start `pyramidion serve` or `pyramidion serve api`, or name its --host and --port"
        yield CheckResult("service", "warning", f"{settings.url_of_api} does not answer", remedy)
    else:
        try:
            failed = [check for check in json.loads(answer)["checks"] if not check["is_ok"]]
            detail = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
            remedy = "correct this, and see the log of `pyramidion serve`"
        except (ValueError, KeyError, TypeError):
            detail = f"{settings.url_of_api}/readyz answers {status}, so another program listens there"
            remedy = "name the port of the service with --port or PYRAMIDION_PORT"
        yield CheckResult("service", "failed", detail, remedy)
