"""Orphans: processes whose parent has ended, which the first process of a container inherits and has to reap.

When the first process of a container exits, the kernel kills all others. Attempts, which elsewhere outlive the
service, are therefore stopped before: they write a checkpoint, and resume from it without spending a retry.
"""

import os
import signal
import time
from collections.abc import Collection

from service.child_process import adopts_orphans
from service.executors.process_tree import processes, send_signal
from service.server.children import report
from service.signals import Signals


def inherits_orphans() -> bool:
    """Return True for the first process of a container, and for a subreaper."""
    return os.getpid() == 1 or adopts_orphans()


def reap_orphans(own: Collection[int]) -> bool:
    """Reap all children that have exited, except the own ones; return True if others remain."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        # `subprocess` reaps the own children, and reports their exit codes.
        if ended is None or ended.si_pid in own:
            return True
        os.waitpid(ended.si_pid, 0)


def stop_orphans(timeout_s: float, signals: Signals) -> None:
    """Ask all children to stop; return when none remains, after a timeout, or at another request to stop."""
    orphans = [process for process in processes().values() if process.parent == os.getpid()]
    if not orphans:
        return
    report(f"{len(orphans)} process(es) of running attempts would end with this container; stopping them first")
    for process in orphans:
        send_signal(process, signal.SIGTERM)
    deadline, stops = time.monotonic() + timeout_s, signals.stops
    while reap_orphans(()) and time.monotonic() < deadline and signals.stops == stops:
        signals.wait(0.2)
