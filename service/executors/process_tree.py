"""Processes by identity, and killing of whole process trees. Linux only.

A pid alone may belong to another process by now: a process is identified by its pid and its start time within one boot.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

Table = Mapping[int, "Process"]

NUM_NEWEST = 4
LOOKS_AT_NEWEST = 100
"""Looks at the processes that were started last, before all descendants are read again."""

_ENDED = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


@dataclass(frozen=True)
class Process:
    """A living process. Two are equal if their handles are, which compare pid and start time since boot."""

    handle: psutil.Process
    parent: int = field(compare=False)
    session: int = field(compare=False)

    @property
    def pid(self) -> int:
        return int(self.handle.pid)


def find_process(pid: int) -> Process | None:
    """Return the living process with this pid; a zombie, which has ended but has not been reaped, is not living."""
    with suppress(psutil.Error, ProcessLookupError):
        handle = psutil.Process(pid)
        with handle.oneshot():
            # The first thread of a process may have ended while others still hold its memory.
            if handle.status() in _ENDED and handle.num_threads() <= 1:
                return None
            parent = handle.ppid()
        session = os.getsid(pid)
        # The session belongs to whoever has the pid now, which must still be the same process.
        return Process(handle, parent, session) if handle.is_running() else find_process(pid)
    return None


def start_ticks(process: Process) -> int | None:
    """Return the start of a process in clock ticks since boot; None if it has ended.

    Other processes and later versions can compare this number. psutil's public start times follow the system clock.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        ticks = int(_stat(process.pid)[19])
        return ticks if process.handle.is_running() else None
    return None


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on; raises FileNotFoundError or ProcessLookupError."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    # The second field, the name, may contain any character, including spaces and parentheses.
    return stat.rpartition(")")[2].split()


def processes() -> dict[int, Process]:
    """Return all living processes of this host, or of this container, by pid."""
    return {pid: process for pid in psutil.pids() if (process := find_process(pid))}


def lineage(pid: int, table: Table) -> Iterator[int]:
    """Yield a pid, the pid of its parent, and so on."""
    while pid in table:
        yield pid
        pid = table[pid].parent


def tree(roots: Iterable[Process], table: Table) -> set[Process]:
    """Return processes with all their descendants, except the caller, its ancestors and their other descendants."""
    spared = set(lineage(os.getpid(), table))
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: set[Process] = set()
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        if process.pid not in spared and process not in found:
            found.add(process)
            waiting.extend(children.get(process.pid, []))
    return found


def descendants(pid: int, table: Table) -> set[Process]:
    """Return the descendants of a process, without itself."""
    return tree([process for process in table.values() if process.parent == pid], table)


def send_signal(process: Process, number: int) -> bool:
    """Send a signal to this process, never to another one with its pid; return True if it was alive."""
    try:
        # Python built with old headers lacks pidfd_open; then only microseconds separate the check and the signal.
        descriptor = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        try:
            if find_process(process.pid) != process:
                return False
            if descriptor is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill(find: Callable[[Table], Collection[Process]]) -> bool:
    """Send SIGKILL to the processes that are found and to all their descendants; return True if any was alive.

    All of them are stopped first. If a process forks just before it stops, the next process table contains its child;
    and a stopped parent keeps its children, so they are found below it. The caller, its ancestors and processes of
    other users are never signaled.
    """
    stopped: set[Process] = set()
    while True:
        table = processes()
        new = tree({*find(table), *(process for process in stopped if table.get(process.pid) == process)}, table)
        if not (new := new - stopped):
            break
        stopped |= new
        for process in new:
            send_signal(process, signal.SIGSTOP)
    killed = {process for process in stopped if send_signal(process, signal.SIGKILL)}
    return bool(killed)


def kill_descendants() -> None:
    """Kill all descendants of the calling process.

    A tree may fork faster than `kill` reads all processes, and it cannot be killed before its newest processes are
    stopped. They are among those that this host has started last.
    """
    own = psutil.Process()
    seen: set[psutil.Process] = set()
    while new := [below for below in own.children(recursive=True) if below not in seen]:
        seen.update(new)
        for _ in range(LOOKS_AT_NEWEST):
            _stop_newest(own.pid)
    kill(lambda table: descendants(own.pid, table))


def _stop_newest(root: int) -> None:
    """Stop those of the processes started last that descend from a process."""
    last = int(Path("/proc/loadavg").read_text().split()[-1])
    for pid in range(last + 1, last - NUM_NEWEST, -1):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _descends(pid, root):
                os.kill(pid, signal.SIGSTOP)


def _descends(pid: int, root: int) -> bool:
    parent = int(_stat(pid)[1])
    while parent not in (0, root):
        parent = int(_stat(parent)[1])
    return parent == root


def variable_of(process: Process, name: str) -> str | None:
    """Return a variable of the environment with which a process was started; None if it is not set or not readable."""
    with suppress(psutil.Error, OSError):
        value = process.handle.environ().get(name)
        return None if value is None else str(value)
    return None


def writes_to(process: Process, path: Path) -> bool:
    """Return True if stdout or stderr of a process is this file."""
    with suppress(psutil.Error, OSError):
        return any(file.fd in (1, 2) and file.path == str(path) for file in process.handle.open_files())
    return False
