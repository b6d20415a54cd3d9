"""Processes by identity, and how whole trees of them are killed. Linux, standard library only.

A pid alone may be someone else's by now: a process is its pid and its start time, and both mean something only within
one boot.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

Table = Mapping[int, "Process"]


@dataclass(frozen=True)
class Process:
    """A living process. Two are the same when pid and start time (clock ticks since boot) are."""

    pid: int
    start_time: int
    parent: int = field(compare=False)
    session: int = field(compare=False)


def boot_id() -> str:
    """Return what the kernel calls the time since it was started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def find_process(pid: int) -> Process | None:
    """Return the living process of that pid; one that has ended and is not yet waited for is not living."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the name, may hold anything, blanks and brackets too.
    state, parent, _, session, *rest = stat.rpartition(")")[2].split()
    num_threads, start_time = int(rest[13]), int(rest[15])
    # The first thread of a process may have ended while others still hold its memory.
    if state in "XZ" and num_threads <= 1:
        return None
    return Process(pid, start_time, int(parent), int(session))


def processes() -> dict[int, Process]:
    """Return all living processes of this host (of this container) by pid."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid: process for pid in pids if (process := find_process(pid))}


def lineage(pid: int, table: Table) -> Iterator[int]:
    """Yield a pid, and those of its parent, and so on."""
    while pid in table:
        yield pid
        pid = table[pid].parent


def tree(roots: Iterable[Process], table: Table) -> set[Process]:
    """Return processes with all their descendants, without the caller, its ancestors, and what only they lead to."""
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
    """Send a signal to that process and to no other that has its pid by now; return whether it was there to get it."""
    try:
        # Python as built on old headers has none; then the time between look and signal is a matter of microseconds.
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
    """Send SIGKILL to what is found, with all descendants; return whether anything was there.

    All are stopped first: a process that gets SIGSTOP while it forks has its child in the next table or does not get
    it, and a parent that is stopped but not dead keeps its children where they are found. Neither the caller nor its
    ancestors are ever touched, nor what belongs to another user.
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


def variable_of(process: Process, name: str) -> str | None:
    """Return a variable of the environment with which a process was started; None where it is not to be seen."""
    with suppress(OSError):
        prefix = f"{name}=".encode()
        for entry in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(prefix):
                return os.fsdecode(entry[len(prefix) :])
    return None


def writes_to(process: Process, path: Path) -> bool:
    """Whether stdout or stderr of a process is that file."""
    with suppress(OSError):
        return path in {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (1, 2)}
    return False
