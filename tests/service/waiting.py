"""Waiting for other processes and threads."""

import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 120.0
"""Only a fault lets a test wait for this long: no assertion depends on how busy the machine is."""


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S, pause_s: float = 0.02) -> Any:
    """Return the first true result of `condition`."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(pause_s)
    return answer
