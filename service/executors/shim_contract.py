"""The contract between executors and shims: the order, the claim of an attempt, and the signals that stop it.

A shim that another system starts, perhaps on another machine, reads its order from a file of the attempt's folder.
"""

import json
import os
import signal
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.run_folder.attempt_files import ShimProcess
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir

if TYPE_CHECKING:
    # A shim, a small process, does not load the settings.
    from service.executors.base import AttemptSpec

END = signal.SIGTERM
"""Asks the shim to stop its command within the grace period."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its process tree at once."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Signals that are blocked when a shim starts, so that signals that arrive early are kept for its interpreter."""

ORDER_FILE_OPTION = "--order-file"
"""The argument of a shim whose order is in a file."""

ORDER_PREFIX = ".order."
"""Start of the hidden names of all files with orders."""

DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
"""Variables that a shim's interpreter may need, without credentials of the service."""

Order = Mapping[str, Any]


def order_of(spec: "AttemptSpec", devices: str | None, inherited: Iterable[str] = ()) -> Order:
    """Return what a shim needs to know; its environment contains the credentials of the attempt.

    Args:
        devices: the value of `DEVICES_VARIABLE`; None if the command gets that of the shim, which another system sets.
        inherited: further variables that the command gets from the environment of the shim.
    """
    folder = spec.folder.resolve()
    chosen = {} if devices is None else {DEVICES_VARIABLE: devices}
    return {
        "command": spec.command,
        "environment": {**spec.environment, **chosen, ATTEMPT_DIR_VARIABLE: str(folder)},
        "inherited": [*inherited, *([DEVICES_VARIABLE] if devices is None else [])],
        "cwd": str(spec.cwd.resolve()),
        "grace_s": spec.grace_s,
    }


def order_path(folder: Path) -> Path:
    """Return the file with the order of an attempt, which its shim removes."""
    return folder / f"{ORDER_PREFIX}json"


def write_order(folder: Path, order: Order) -> None:
    """Write an order that only the user of the service can read; raises OSError."""
    descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=ORDER_PREFIX)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(order, file)
        rename_synced(Path(unfinished), order_path(folder))
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def remove_orders(folder: Path) -> None:
    """Remove all orders of an attempt that must not start any more; raises OSError.

    A process that is killed while it writes an order leaves an unfinished file, perhaps with credentials.
    """
    for path in folder.glob(f"{ORDER_PREFIX}*"):
        path.unlink(missing_ok=True)


def claim(folder: Path, run: ShimProcess) -> bool:
    """Write run.json unless it exists; return True if it was written, so that the caller alone may run the attempt.

    Executors claim attempts that must not run any more, with a `ShimProcess` without values: a shim that starts later
    exits at once. Raises OSError.
    """
    path = AttemptDir(folder).run_json
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(run.to_json())
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            # A file server repeats a request whose answer was lost, and then answers that the file exists.
            return unfinished.stat().st_nlink > 1
    finally:
        unfinished.unlink(missing_ok=True)
    return True
