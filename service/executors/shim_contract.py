"""The signals by which the local executor controls a shim."""

import signal

END = signal.SIGTERM
"""Asks the shim to stop its command within the grace period."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its process tree at once."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Signals that are blocked when a shim starts, so that signals that arrive early are kept for its interpreter."""
