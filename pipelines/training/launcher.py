"""The processes of one run on one host: the first starts the others, they meet in a folder, and all end together.

On several nodes, this holds for each of them, and `pipelines.nodes` connects them. Torch-free.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.base.errors import PyramidionError, RankError, error_text
from pipelines.base.process_folder import ProcessFolder, is_abandoned, remove_abandoned_folders
from pipelines.base.ranks import LOCAL_RANK, NODE_FOLDER, local_rank, node_rank, num_nodes
from pipelines.base.signals import held_stop_signals, release_stop_signals, signal_name
from pipelines.nodes.folder import STOP, NodeFolder, read_error, write_error
from pipelines.nodes.settings import ADDRESS_VARIABLE
from pipelines.run_folder.layout import RUN_DIR_VARIABLE

RENDEZVOUS_VARIABLE = "PYRAMIDION_RENDEZVOUS"
"""The environment variable that holds the folder where ranks meet; rank 0 sets it for the ranks that it starts."""

STORE_VARIABLE = "PYRAMIDION_STORE"
"""The environment variable that holds the address where rank 0 of a run on several nodes listens, for torch's store."""

RANKS_VARIABLE = "PYRAMIDION_RANKS_PER_NODE"
"""The environment variable by which rank 0 passes the number of processes of its node to other nodes."""

START_TIMEOUT_S = 600.0
FAULT_TIMEOUT_S = 5.0
"""Time that rank 0 waits, after an error in rank 0, for the end of another rank that may have caused it."""
END_TIMEOUT_S = 30.0
"""Time that the other ranks have to end after rank 0, before they are killed."""

_children: list[subprocess.Popen[bytes]] = []
_folder: ProcessFolder | None = None
_listener: socket.socket | None = None
_is_closed = threading.Event()


@contextmanager
def supervised_ranks() -> Iterator[None]:
    """Supervise the ranks that a trainer starts inside; they end before the context does, and their folder is deleted.

    Raises:
        RankError: on the first rank of a node, in place of an error that was caused by the end of another rank.
    """
    release_stop_signals()
    if local_rank() > 0:
        parent = os.getppid()
        threading.Thread(target=_end_once, args=(lambda: os.getppid() != parent,), daemon=True).start()
        yield
        return
    if node := NodeFolder.of_this_process():
        threading.Thread(target=_end_once, args=(lambda: is_abandoned(node.path),), daemon=True).start()
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
    """Run this process's command again as the other ranks of this node; do nothing if they were started before.

    Rank 0 of a run on several nodes lets the other nodes start too.

    Args:
        num_processes: number of ranks of this node.

    Raises:
        RankError: this process was started by another launcher, or other nodes have another number of ranks.
    """
    if RENDEZVOUS_VARIABLE in os.environ:
        return
    if LOCAL_RANK in os.environ:
        raise RankError(f"{LOCAL_RANK} is set; start one process alone, without a launcher, and it starts the others")
    global _folder
    if node := NodeFolder.of_this_process():
        os.environ[RENDEZVOUS_VARIABLE] = str(node.path)
        if node_rank() == 0:
            node.write_order(_order(num_processes))
        elif (number := os.environ[RANKS_VARIABLE]) != str(num_processes):
            problem = f"node {node_rank()} has {num_processes} processes, but node 0 has {number}"
            raise RankError(f"{problem}; set trainer.devices to a number that all nodes have")
    else:
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


def _order(num_processes: int) -> dict[str, str]:
    """Listen for torch's store, and return the environment with which the other nodes join the run."""
    global _listener
    host = os.environ[ADDRESS_VARIABLE].rpartition(":")[0]
    _listener = socket.create_server((host, 0), backlog=1024)
    os.environ[STORE_VARIABLE] = f"{host}:{_listener.getsockname()[1]}"
    os.environ[RANKS_VARIABLE] = str(num_processes)
    return {name: os.environ[name] for name in (STORE_VARIABLE, RANKS_VARIABLE, RUN_DIR_VARIABLE) if name in os.environ}


def store_listener() -> int | None:
    """Return the socket on which rank 0 listens for torch's store, which closes it; None on other ranks."""
    global _listener
    listener, _listener = _listener, None
    return None if listener is None else listener.detach()


def wait_for_ranks(rank: int, world_size: int) -> Path:
    """Wait for all ranks and return the file for torch's rendezvous, whose own wait does not end when a rank dies.

    Raises:
        RankError: a rank has ended, or did not arrive in time.
    """
    folder = Path(os.environ[RENDEZVOUS_VARIABLE])
    of_node = range(world_size // num_nodes())
    (folder / f"here-{rank - node_rank() * len(of_node)}").touch()
    _wait_until_here(lambda: [other for other in of_node if not (folder / f"here-{other}").exists()])
    if node := NodeFolder.of_this_process():
        node.mark("here")
        _wait_until_here(lambda: [] if node.has("all-here") else ["of other nodes"])
    return folder / "rendezvous"


def _wait_until_here(missing: Callable[[], list[Any]]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while found := missing():
        if fault := _fault(any_end=True):
            raise fault
        if time.monotonic() > deadline:
            raise RankError(f"ranks {found} did not start within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def stop_watching() -> None:
    """Accept any end of the other ranks: rank 0 no longer needs them."""
    _is_closed.set()
    node = NodeFolder.of_this_process()
    if node is not None and node_rank() == local_rank() == 0:
        node.mark("closed")


def kill_ranks() -> None:
    """Kill the other ranks."""
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()


def report_to_rank_zero(error: PyramidionError) -> None:
    """Leave the error that ends this rank in the folder of its node; rank 0 prints it."""
    folder = os.environ.get(RENDEZVOUS_VARIABLE) or os.environ.get(NODE_FOLDER)
    if folder is not None and Path(folder).is_dir():
        write_error(Path(folder), local_rank(), error)


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
        any_end: whether the end of a rank of this node without an error counts too.
    """
    node = NodeFolder.of_this_process()
    if node is not None and local_rank() == 0 and (fault := node.fault()):
        return fault
    first = node_rank() * (len(_children) + 1)
    for rank, child in enumerate(_children, start=1):
        code = child.poll()
        if code is None or (code == 0 and not any_end):
            continue
        if reported := read_error(Path(os.environ[RENDEZVOUS_VARIABLE]), rank):
            return reported
        if code < 0:
            hint = " (memory may have run out)" if code == -signal.SIGKILL else ""
            return RankError(f"process {first + rank} of this run was terminated by {signal_name(-code)}{hint}")
        return RankError(f"process {first + rank} of this run exited with code {code}; see its output above")
    return None


def _wait_for_fault() -> RankError | None:
    deadline = time.monotonic() + FAULT_TIMEOUT_S
    while not (fault := _fault()) and (_is_running() or num_nodes() > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    return fault


def _is_running() -> bool:
    return any(child.poll() is None for child in _children)


def _end(patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while _is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    kill_ranks()
    if _folder is not None or NODE_FOLDER in os.environ:
        _is_closed.set()
        _children.clear()
        os.environ.pop(RENDEZVOUS_VARIABLE, None)
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


def _end_once(is_alone: Callable[[], bool]) -> None:
    """End this process once the one that has started it no longer exists."""
    while not is_alone():
        time.sleep(1.0)
    os._exit(1)
