"""The signals by which the local executor controls a shim."""

import signal

END = signal.SIGTERM
"""Asks the shim to have its command end by itself, in time."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its tree now."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Blocked from the birth of a shim on, so that what arrives while its interpreter starts waits for it."""
