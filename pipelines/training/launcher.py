"""The processes of one run on one host: rank 0 starts the others, they meet in a folder, and all end together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.errors import PyramidionError, RankError
from pipelines.ranks import LOCAL_RANK, local_rank

MEETING_PLACE = "PYRAMIDION_RENDEZVOUS"
"""Names the folder where ranks meet; rank 0 hands it to the ranks that it starts."""

STOP = "stop"
"""The file of the meeting place by which ranks tell each other of a stop between collectives."""
SIGNALS = {signal.SIGTERM, signal.SIGINT}
MEETING_TIMEOUT_S = 600.0
FAULT_TIMEOUT_S = 5.0
"""How long after an error of its own rank 0 waits for the news that another rank's end was the cause."""
END_TIMEOUT_S = 30.0
"""How long the other ranks have to end after rank 0 has; one that waits for rank 0 is ended by force."""

_children: list[subprocess.Popen[bytes]] = []
_is_closed = threading.Event()


@contextmanager
def ranks() -> Iterator[None]:
    """Hold the ranks that trainers start in here: afterwards, however it went, they have ended, and nothing of their
    meeting place is left.

    Raises:
        RankError: on rank 0, in place of an error that the end of another rank has caused.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
    """Run this process's own command again as ranks 1 and up, once; a rank that was started does nothing."""
    if MEETING_PLACE in os.environ:
        return
    if LOCAL_RANK in os.environ:
        raise RankError(f"{LOCAL_RANK} is set; start one process alone, without a launcher, and it starts the others")
    os.environ[MEETING_PLACE] = tempfile.mkdtemp(prefix="pyramidion-")
    _is_closed.clear()
    command = [sys.executable, *sys.orig_argv[1:]]
    # What is sent to the whole group while a rank still imports waits there until the rank has its handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        for rank in range(1, num_processes):
            _children.append(subprocess.Popen(command, env={**os.environ, LOCAL_RANK: str(rank)}))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    threading.Thread(target=_watch, daemon=True).start()


def meet(rank: int, world_size: int) -> Path:
    """Return the file for torch's rendezvous, once all ranks are here: its own wait does not end when one has died.

    Raises:
        RankError: a rank has ended, or does not come.
    """
    folder = Path(os.environ[MEETING_PLACE])
    (folder / f"here-{rank}").touch()
    deadline = time.monotonic() + MEETING_TIMEOUT_S
    while missing := [other for other in range(world_size) if not (folder / f"here-{other}").exists()]:
        if fault := _fault(of_any_end=True):
            raise fault
        if time.monotonic() > deadline:
            raise RankError(f"ranks {missing} did not come within {MEETING_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    return folder / "rendezvous"


def stop_watching() -> None:
    """Let the other ranks end as they like: rank 0 no longer needs them."""
    _is_closed.set()


def kill_ranks() -> None:
    """End the other ranks by force."""
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()


def leave_word(error: PyramidionError) -> None:
    """Let rank 0 know what this rank ends with; it is rank 0 that tells people."""
    word = {"message": str(error), "exit_code": error.exit_code, "failure_kind": error.failure_kind}
    folder = os.environ.get(MEETING_PLACE)
    if folder is None or not Path(folder).is_dir():
        return
    unfinished = Path(folder) / f"word-{local_rank()}.writing"
    unfinished.write_text(json.dumps(word))
    unfinished.replace(Path(folder) / f"word-{local_rank()}")


def ask_ranks_to_stop() -> None:
    """Let all ranks of this run see that one of them was asked to stop, see `ranks_are_asked_to_stop`."""
    if folder := os.environ.get(MEETING_PLACE):
        with suppress(OSError):
            (Path(folder) / STOP).touch()


def ranks_are_asked_to_stop() -> bool:
    """Whether another rank of this run has called `ask_ranks_to_stop`."""
    folder = os.environ.get(MEETING_PLACE)
    return folder is not None and (Path(folder) / STOP).exists()


def _fault(*, of_any_end: bool = False) -> RankError | None:
    """Return what another rank has ended with; None while all run, or where it was no error."""
    for rank, child in enumerate(_children, start=1):
        code = child.poll()
        if code is None or (code == 0 and not of_any_end):
            continue
        word = Path(os.environ[MEETING_PLACE]) / f"word-{rank}"
        if word.exists():
            return RankError(**json.loads(word.read_text()))
        if code < 0:
            why = " (memory may have run out)" if code == -signal.SIGKILL else ""
            return RankError(f"process {rank} of this run was ended by {signal.Signals(-code).name}{why}")
        return RankError(f"process {rank} of this run ended with code {code}; what it said is above")
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
    if _children:
        stop_watching()
        _children.clear()
        shutil.rmtree(os.environ.pop(MEETING_PLACE), ignore_errors=True)


def _watch() -> None:
    """End rank 0 where another rank has failed and rank 0 does not come to know: it may hang in a collective."""
    while not _is_closed.wait(1.0):
        if (fault := _fault()) is None:
            continue
        if _is_closed.wait(END_TIMEOUT_S):
            return
        print(f"error: {fault}", file=sys.stderr, flush=True)
        kill_ranks()
        shutil.rmtree(os.environ[MEETING_PLACE], ignore_errors=True)
        os._exit(fault.exit_code)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
