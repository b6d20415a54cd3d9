"""The time for which a client repeats a request that was not answered."""

import time

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 1.0


class Patience:
    """Pauses between the attempts of one request, which become longer."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._pause_s = FIRST_PAUSE_S

    def wait(self, limit_s: float) -> bool:
        """Wait before the next attempt; return False at once if the first one was longer ago than this limit."""
        if time.monotonic() - self._started > limit_s:
            return False
        time.sleep(self._pause_s)
        self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
        return True
