"""A thread for the sweeps of a supervisor: a suggestion takes longer than a round of the supervisor's loop may take.

The thread holds no state and ends with the process. All of its writes are fenced by the lease of the supervisor.
"""

import logging
import threading

from service.store.errors import StoreUnavailable, Superseded
from service.supervisor.sweep_runner import SweepRunner

EVERY_S = 1.0
LONGEST_PAUSE_S = 10.0

log = logging.getLogger(__name__)


class SweepThread:
    """Runs the rounds of a `SweepRunner` until the process ends."""

    def __init__(self, runner: SweepRunner) -> None:
        self._runner = runner
        self._thread = threading.Thread(target=self._work, name="sweeps", daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread; the supervisor must have the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Start no further round; one in progress may still write, which the lease fences."""
        self._stopped.set()

    def _work(self) -> None:
        pause_s = EVERY_S
        while not self._stopped.wait(pause_s):
            try:
                self._runner.round()
                pause_s = EVERY_S
            except Superseded:
                return  # the supervisor's loop reports it and exits
            except StoreUnavailable as error:
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                log.error("sweeps: %s; next try in %.1f s", error, pause_s)
            except Exception as error:  # no error may end the thread
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                log.exception("sweeps: %s; next try in %.1f s", error, pause_s)
