"""`python -m service.run_sync.node COMMAND...`: runs the command of an attempt on a node that shares no disk.

An executor starts it in place of the command (`service.run_sync.executor`), below a shim, with a `NodeOrder` in the
environment. It restores the run folder in a scratch folder, runs the command there as a shim does, and pushes what
changes. After the command it stores what is not stored yet, exit.json last, and empties the scratch folder. If that is
impossible in time, it exits with `STORAGE_FAILED`, and the scratch folder stays.

Its output is in the log of the attempt. SIGTERM is passed on to the command, which is killed after the grace period.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipelines.base.errors import ConfigError
from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.files import remove_folder
from pipelines.run_folder.layout import AttemptDir, RunDir
from service.child_process import adopt_orphans
from service.executors.shim_contract import END, KILL
from service.run_sync.commits import JobObjects
from service.run_sync.order import KEPT, STORAGE_FAILED, NodeOrder
from service.run_sync.push import FolderPusher
from service.run_sync.push_loop import MAX_PAUSE_S, PushLoop
from service.run_sync.starting import restore_start
from service.shim import NOT_STARTED, hold_signals, start_command, watch_command
from service.storage.base import StorageError
from service.storage.opening import open_run_storage

log = logging.getLogger(__name__)


def main() -> int:
    """Run one attempt, and return the exit code of its command, or of a shell if a signal has terminated it."""
    hold_signals()
    adopt_orphans()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    order, environment = NodeOrder.take()
    try:
        pusher = _restored(order)
    except ConfigError as error:
        log.error("%s", error)
        return ConfigError.exit_code
    if pusher is None:
        return STORAGE_FAILED
    pushes = PushLoop(pusher)
    code, ran_out_of_memory = _run(order, environment, pushes)
    ending = AttemptExit(code=code, ended=time.time(), ran_out_of_memory=ran_out_of_memory)
    # An executor whose disk this is would take a file there for that of the shim, which has not ended yet.
    exit_json = AttemptDir(RunDir.of(order.folder).attempt(order.attempt)).exit_json.relative_to(order.folder)
    last = (exit_json.as_posix(), ending.to_json().encode())
    if (problem := pushes.finish(order.push_timeout_s, last)) is not None:
        (order.folder / KEPT).touch()
        log.error("files were not stored within %g s, and stay in %s: %s", order.push_timeout_s, order.folder, problem)
        return STORAGE_FAILED
    _empty(order.folder)
    return code if code >= 0 else 128 - code


def _empty(scratch: Path) -> None:
    """Remove everything but the folder of the attempt: run.json there shows that the shim still runs."""
    for path in scratch.iterdir():
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        elif path != RunDir.of(scratch).attempts:
            remove_folder(path)


def _restored(order: NodeOrder) -> FolderPusher | None:
    """Restore the scratch folder; return what pushes it, or None if that takes too long or the attempt is stopped."""
    objects = JobObjects(open_run_storage(order.storage, order.timeout_s), order.job_id)
    deadline, pause_s = time.monotonic() + order.push_timeout_s, 0.5
    while True:
        try:
            base = restore_start(order.folder, objects, order.attempt)
            return FolderPusher(order.folder, objects, order.attempt, base)
        except (StorageError, OSError) as error:
            is_stopped = bool(signal.sigpending() & {END, KILL})
            if is_stopped or time.monotonic() + pause_s > deadline:
                log.error("the run folder was not restored in %s: %s", order.folder, error)
                return None
            log.warning("the run folder is not restored yet: %s", error)
        time.sleep(pause_s)
        pause_s = min(MAX_PAUSE_S, 2 * pause_s)


def _run(order: NodeOrder, environment: dict[str, str], pushes: PushLoop) -> tuple[int, bool]:
    """Run the command; return its exit code, and whether memory ran out, once its whole process tree has exited."""
    words, cwd = sys.argv[1:], str(Path.cwd())
    try:
        if requested := signal.sigpending() & {END, KILL}:
            return -(signal.SIGKILL if KILL in requested else signal.SIGTERM), False
        command = start_command(words, environment, cwd)
    except (OSError, subprocess.SubprocessError) as error:
        log.error("%s could not be started in %s: %s", words[0], cwd, error)
        return NOT_STARTED, False
    # After the command, which is started by a process with a single thread.
    pushes.start()
    return watch_command(command, order.grace_s)


if __name__ == "__main__":
    # Not sys.exit: a request that did not end in time must not keep the process alive.
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)
