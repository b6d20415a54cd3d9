"""`python -m service.shim FOLDER [--order-file]`: runs one attempt, from its first process to its last.

Each attempt has one such small process in its own session, which outlives the process that started it. It reads a JSON
object from stdin, or from a file of the folder, which it removes: `command`, `environment`, `inherited` (names of
variables that the command gets from the shim's environment), `cwd`, `grace_s`, `start_until`, `driver`. It first writes
run.json to the folder, or exits at once if the file exists, or if the monotonic clock is after `start_until`. The
output of the command is written to log.txt. Once the command and its whole process tree have exited, it writes
exit.json. It passes SIGTERM on to the command, and kills the tree after the grace period. The end of the process
`driver` has the same effect. SIGUSR1 kills the tree at once.
"""

import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import AttemptDir
from service.boot_clock import boot_id
from service.child_process import adopt_orphans, die_with_parent
from service.executors.memory import oom_kills
from service.executors.process_tree import find_process, kill_descendants, start_ticks
from service.executors.shim_contract import END, HELD, KILL, ORDER_FILE_OPTION, claim, order_path

NOT_STARTED = 127
WATCHED = {END, KILL, signal.SIGCHLD}
IGNORED = (signal.SIGINT, signal.SIGHUP)
LOOK_S = 10.0
"""Seconds between two readings of the kernel's count of out-of-memory kills while nothing else happens."""
DRIVER_LOOK_S = 1.0
"""Seconds between two looks whether the driver is alive."""

SAVE_PAUSES_S = (0.1, 0.4, 1.0, 2.0)
"""Pauses between attempts to write exit.json to a full disk; after the last one the shim exits without it."""


def main() -> int:
    """Run the attempt of a folder; return 0 if exit.json is written or another shim runs the attempt."""
    hold_signals()
    files = AttemptDir(Path(sys.argv[1]))
    has_order_file = ORDER_FILE_OPTION in sys.argv[2:]
    order = _order_from_file(files) if has_order_file else json.load(sys.stdin)
    # The input may contain credentials; its memory is freed when the last process closes it.
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    adopt_orphans()
    run = _this_process()
    start_until = order.get("start_until")
    if start_until is not None and time.monotonic() > start_until:
        # The process that started this one was stopped in between, and another one runs the attempt by now.
        return 0
    if not claim(files.path, run):
        return 0
    if has_order_file:
        # An attempt that is claimed must run; a sweep removes an order that remains.
        with suppress(OSError):
            order_path(files.path).unlink(missing_ok=True)
    code, ran_out_of_memory = _attempt(files, run, order)
    ending = AttemptExit(code=code, ended=time.time(), ran_out_of_memory=ran_out_of_memory)
    return 0 if _save(files.exit_json, ending) else 1


def hold_signals() -> None:
    """Let signals wait until `watch_command` handles them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD | WATCHED)
    for number in WATCHED:
        signal.signal(number, signal.SIG_DFL)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def _this_process() -> ShimProcess:
    """Return the content of run.json: pid, start time and boot id identify this process."""
    myself = find_process(os.getpid())
    assert myself is not None
    return ShimProcess(
        pid=myself.pid,
        start_time=start_ticks(myself),
        boot_id=boot_id(),
        host=platform.node(),
        started=time.time(),
    )


def _order_from_file(files: AttemptDir) -> dict[str, Any]:
    """Return the order of the attempt; exit if it has been removed."""
    try:
        order: dict[str, Any] = json.loads(order_path(files.path).read_bytes())
    except FileNotFoundError:
        if files.run_json.exists():
            # Another shim runs the attempt, or it must not run any more.
            sys.exit(0)
        _log_error(f"the order of the attempt is missing in {files.path}; the folder must be on a disk that all share")
        sys.exit(NOT_STARTED)
    return order


def _attempt(files: AttemptDir, run: ShimProcess, order: dict[str, Any]) -> tuple[int, bool]:
    """Return the exit code of the command, and whether memory ran out, once its whole process tree has exited."""
    if requested := signal.sigpending() & {END, KILL}:
        return -(signal.SIGKILL if KILL in requested else signal.SIGTERM), False
    inherited = {name: os.environ[name] for name in order.get("inherited", ()) if name in os.environ}
    try:
        command = start_command(order["command"], {**order["environment"], **inherited}, order["cwd"])
    except (OSError, subprocess.SubprocessError) as error:
        _log_error(f"{order['command'][0]} could not be started in {order['cwd']}: {error}")
        return NOT_STARTED, False
    with suppress(OSError):
        replace(run, trainer_pid=command.pid).write(files.run_json)
    return watch_command(command, order["grace_s"], order.get("driver"))


def start_command(command: Sequence[str], environment: Mapping[str, str], cwd: str) -> subprocess.Popen[bytes]:
    """Start the command in its own process group, with default signal handlers; it dies with this process."""
    shim = os.getpid()

    def prepare() -> None:
        die_with_parent(parent=shim)
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    # stdout and stderr of this process are log.txt.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env=environment,
        process_group=0,
        preexec_fn=prepare,
    )


def watch_command(
    command: subprocess.Popen[bytes], grace_s: float, driver: Sequence[int] | None = None
) -> tuple[int, bool]:
    """Wait until the command and all its descendants have exited; kill the descendants that outlive the command.

    Memory counts as having run out if the kernel's count of out-of-memory kills (see `oom_kills`) grew in the last
    moments of a command that failed.

    Args:
        command: the process that was started.
        grace_s: the grace period.
        driver: pid and start time of a process whose end has the effect of SIGTERM; None without such a process.
    """
    deadline, pause_s = math.inf, 0.005
    kills, look_at = [oom_kills()] * 2, 0.0
    while _reap(command):
        now = time.monotonic()
        if command.returncode is not None or now >= deadline:
            kill_descendants()
            wait_s, pause_s = pause_s, min(2 * pause_s, 1.0)
        else:
            wait_s = min(deadline - now, LOOK_S if driver is None else DRIVER_LOOK_S)
        arrived = signal.sigtimedwait(WATCHED, wait_s)
        number = None if arrived is None else arrived.si_signo
        if number == KILL:
            deadline = -math.inf
        elif deadline == math.inf and (number == END or _has_ended(driver)):
            deadline = time.monotonic() + grace_s
            if command.returncode is None:
                os.kill(command.pid, signal.SIGTERM)
        elif number is None and command.returncode is None and time.monotonic() >= look_at:
            kills, look_at = [kills[1], oom_kills()], time.monotonic() + LOOK_S
    assert command.returncode is not None
    return command.returncode, command.returncode != 0 and oom_kills() > kills[0]


def _has_ended(driver: Sequence[int] | None) -> bool:
    if driver is None:
        return False
    process = find_process(driver[0])
    return process is None or start_ticks(process) != driver[1]


def _reap(command: subprocess.Popen[bytes]) -> bool:
    """Reap all children that have exited, including adopted orphans; return True if others remain."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == command.pid:
            command.returncode = os.waitstatus_to_exitcode(status)


def _save(path: Path, ending: AttemptExit) -> bool:
    """Write exit.json; return True if it was written."""
    for pause_s in (*SAVE_PAUSES_S, None):
        try:
            ending.write(path)
            return True
        except OSError as error:
            if pause_s is None:
                _log_error(f"{path} could not be written: {error}")
            else:
                time.sleep(pause_s)
    return False


def _log_error(text: str) -> None:
    """Append an error to log.txt if the disk is not full."""
    with suppress(OSError):
        print(f"error: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
