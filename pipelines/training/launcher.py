"""The processes of one run on one host: rank 0 starts the others, they meet in a folder, and all end together.

Torch-free.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.base.errors import PyramidionError, RankError, error_text
from pipelines.base.process_folder import ProcessFolder, remove_abandoned_folders
from pipelines.base.ranks import LOCAL_RANK, local_rank
from pipelines.base.signals import held_stop_signals, release_stop_signals, signal_name
from pipelines.run_folder.files import write_atomic

RENDEZVOUS_VARIABLE = "PYRAMIDION_RENDEZVOUS"
"""The environment variable that holds the folder where ranks meet; rank 0 sets it for the ranks that it starts."""

STOP = "stop"
"""The file in that folder by which ranks announce a stop between collectives."""
START_TIMEOUT_S = 600.0
FAULT_TIMEOUT_S = 5.0
"""Time that rank 0 waits, after an error in rank 0, for the end of another rank that may have caused it."""
END_TIMEOUT_S = 30.0
"""Time that the other ranks have to end after rank 0, before they are killed."""

_children: list[subprocess.Popen[bytes]] = []
_folder: ProcessFolder | None = None
_is_closed = threading.Event()


@contextmanager
def supervised_ranks() -> Iterator[None]:
    """Supervise the ranks that a trainer starts inside; they end before the context does, and their folder is deleted.

    Raises:
        RankError: on rank 0, in place of an error that was caused by the end of another rank.
    """
    release_stop_signals()
    if local_rank() > 0:
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        yield
        return
    patience_s = 0.0
    try:
        yield
        patience_s = END_TIMEOUT_S
    except PyramidionError:
        patience_s = FAULT_TIMEOUT_S
        raise
    except Exception as error:
        if fault := _wait_for_fault():
            raise fault from error
        raise
    finally:
        _end(patience_s)


def start_ranks(num_processes: int) -> None:
    """Run this process's command again as ranks 1 and up; do nothing if the ranks were started before."""
    if RENDEZVOUS_VARIABLE in os.environ:
        return
    if LOCAL_RANK in os.environ:
        raise RankError(f"{LOCAL_RANK} is set; start one process alone, without a launcher, and it starts the others")
    global _folder
    remove_abandoned_folders()
    _folder = ProcessFolder()
    os.environ[RENDEZVOUS_VARIABLE] = str(_folder.path)
    _is_closed.clear()
    command = [sys.executable, *sys.orig_argv[1:]]
    # A signal to the process group, sent while a rank still imports, stays pending until the rank has its handlers.
    with held_stop_signals():
        for rank in range(1, num_processes):
            _children.append(subprocess.Popen(command, env={**os.environ, LOCAL_RANK: str(rank)}))
    threading.Thread(target=_watch, daemon=True).start()


def wait_for_ranks(rank: int, world_size: int) -> Path:
    """Wait for all ranks and return the file for torch's rendezvous, whose own wait does not end when a rank dies.

    Raises:
        RankError: a rank has ended, or did not arrive in time.
    """
    folder = Path(os.environ[RENDEZVOUS_VARIABLE])
    (folder / f"here-{rank}").touch()
    deadline = time.monotonic() + START_TIMEOUT_S
    while missing := [other for other in range(world_size) if not (folder / f"here-{other}").exists()]:
        if fault := _fault(any_end=True):
            raise fault
        if time.monotonic() > deadline:
            raise RankError(f"ranks {missing} did not start within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    return folder / "rendezvous"


def stop_watching() -> None:
    """Accept any end of the other ranks: rank 0 no longer needs them."""
    _is_closed.set()


def kill_ranks() -> None:
    """Kill the other ranks."""
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()


def report_to_rank_zero(error: PyramidionError) -> None:
    """Leave the error that ends this rank in the ranks' folder; rank 0 prints it."""
    content = {"message": str(error), "exit_code": error.exit_code, "failure_kind": error.failure_kind}
    folder = os.environ.get(RENDEZVOUS_VARIABLE)
    if folder is None or not Path(folder).is_dir():
        return
    write_atomic(Path(folder) / f"error-{local_rank()}", json.dumps(content))


def announce_stop() -> None:
    """Announce to all ranks of this run that a stop was requested, see `stop_is_announced`."""
    if folder := os.environ.get(RENDEZVOUS_VARIABLE):
        with suppress(OSError):
            (Path(folder) / STOP).touch()


def stop_is_announced() -> bool:
    """Return whether a rank of this run has called `announce_stop`."""
    folder = os.environ.get(RENDEZVOUS_VARIABLE)
    return folder is not None and (Path(folder) / STOP).exists()


def _fault(*, any_end: bool = False) -> RankError | None:
    """Return the error of another rank that has ended; None while all run.

    Args:
        any_end: whether the end of a rank without an error counts too.
    """
    for rank, child in enumerate(_children, start=1):
        code = child.poll()
        if code is None or (code == 0 and not any_end):
            continue
        report = Path(os.environ[RENDEZVOUS_VARIABLE]) / f"error-{rank}"
        if report.exists():
            return RankError(**json.loads(report.read_text()))
        if code < 0:
            hint = " (memory may have run out)" if code == -signal.SIGKILL else ""
            return RankError(f"process {rank} of this run was terminated by {signal_name(-code)}{hint}")
        return RankError(f"process {rank} of this run exited with code {code}; see its output above")
    return None


def _wait_for_fault() -> RankError | None:
    deadline = time.monotonic() + FAULT_TIMEOUT_S
    while not (fault := _fault()) and _is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    return fault


def _is_running() -> bool:
    return any(child.poll() is None for child in _children)


def _end(patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while _is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_ranks()
    if _folder is not None:
        stop_watching()
        _children.clear()
        del os.environ[RENDEZVOUS_VARIABLE]
        _remove_folder()


def _watch() -> None:
    """End this process if another rank has failed and this process hangs, for example in a collective."""
    while not _is_closed.wait(1.0):
        if (fault := _fault()) is None:
            continue
        if _is_closed.wait(END_TIMEOUT_S):
            return
        print(error_text(fault), file=sys.stderr, flush=True)
        kill_ranks()
        _remove_folder()
        os._exit(fault.exit_code)


def _remove_folder() -> None:
    global _folder
    if _folder is not None:
        _folder.remove()
        _folder = None


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
