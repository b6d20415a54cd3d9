"""The signals by which the local executor controls a shim."""

import signal

END = signal.SIGTERM
"""Asks the shim to end its command within its grace."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its tree at once."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Signals that are blocked when a shim starts, so that those that arrive early wait for its interpreter."""
