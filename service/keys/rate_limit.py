"""A limit on the rate of requests: each key has a bucket of tokens, which fills at a constant rate."""

import time
from collections.abc import Callable


class RateLimit:
    """Limits requests per minute by key, in this process.

    A bucket holds the tokens of one minute, so that a client that was silent may send them in one burst.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, key_id: str, per_minute: int) -> float:
        """Take a token and return 0, or return the seconds until the next token if there is none."""
        now = self._clock()
        tokens, filled_at = self._buckets.get(key_id, (float(per_minute), now))
        tokens = min(float(per_minute), tokens + (now - filled_at) * per_minute / 60)
        if tokens < 1:
            self._buckets[key_id] = tokens, now
            return (1 - tokens) * 60 / per_minute
        self._buckets[key_id] = tokens - 1, now
        return 0.0
