"""`python -m service.run_sync.ray_driver FOLDER ORDER`: the entrypoint of an attempt whose node shares no disk.

It takes the attempt's order from the storage of run folders, is its driver (`service.executors.ray.driver`) from then
on, and reports its end to the storage. ORDER is a `NodeOrder` as JSON, which everybody may read. The storage is reached
with the variables of this node that start with `AWS_`, which `service.run_sync.node` gets too, or by the role of the
machine.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipelines.base.errors import ConfigError
from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.files import remove_folder
from pipelines.run_folder.layout import AttemptDir
from pipelines.run_folder.log_text import log_tail
from service.executors.ray.driver import run_order
from service.executors.ray.states import NO_ORDER
from service.executors.shim_contract import Order, write_order
from service.run_sync.commits import JobObjects
from service.run_sync.handover import Ending, Handover
from service.run_sync.order import KEPT, NodeOrder, storage_variables
from service.run_sync.push_loop import MAX_PAUSE_S, PUSH_EVERY_S
from service.storage.base import StorageError
from service.storage.opening import open_run_storage

LOG_LINES = 20
T = TypeVar("T")


def main() -> int:
    """Run the attempt; return as `driver.main`, or NO_ORDER if the order cannot be fetched."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    folder, node = Path(sys.argv[1]), NodeOrder.parse(sys.argv[2])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        objects = JobObjects(open_run_storage(node.storage, node.timeout_s), node.job_id)
        handover = Handover(objects, node.attempt)
        order = taken(handover, node.push_timeout_s)
    except (StorageError, ConfigError, OSError) as error:
        print(f"the order of the attempt cannot be fetched: {error}", file=sys.stderr, flush=True)
        return NO_ORDER
    if order is None:
        print("the attempt was stopped before it ran, or runs already", flush=True)
        return 0
    write_order(folder, {**order, "environment": {**order["environment"], **storage_variables(os.environ)}})
    code = run_order(folder)
    try:
        report_end(handover, folder, node)
    except StorageError as error:
        print(f"the end of the attempt was not reported: {error}", file=sys.stderr, flush=True)
    return code


def taken(handover: Handover, limit_s: float) -> Order | None:
    """Return the order as `Handover.take`, also None if this process is asked to exit before it has succeeded."""
    token = secrets.token_hex(8)
    return _repeated(lambda: None if signal.SIGTERM in signal.sigpending() else handover.take(token), limit_s)


def report_end(handover: Handover, folder: Path, node: NodeOrder) -> None:
    """Remove the scratch folder unless it holds files that are not stored, and report the exit of the shim, if any."""
    ending, lines = AttemptExit.read_if_valid(AttemptDir(folder).exit_json), log_tail(AttemptDir(folder).log)
    if not (node.folder / KEPT).exists():
        with suppress(OSError):
            remove_folder(node.folder)
    if ending is not None:
        report = Ending(exit=ending, log="\n".join(lines[-LOG_LINES:]))
        _repeated(lambda: handover.report(report), node.push_timeout_s)


def _repeated(request: Callable[[], T], limit_s: float) -> T:
    """Return the result of a request, which is repeated while the storage fails, for a limited time."""
    deadline, pause_s = time.monotonic() + limit_s, PUSH_EVERY_S
    while True:
        try:
            return request()
        except StorageError:
            if time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(MAX_PAUSE_S, 2 * pause_s)


if __name__ == "__main__":
    sys.exit(main())
