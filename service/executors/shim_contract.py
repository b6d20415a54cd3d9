"""What the local executor and its shim agree on: the files of an attempt, and signals."""

import json
import signal
from pathlib import Path
from typing import Any

RUN = "run.json"
LOG = "log.txt"
EXIT = "exit.json"

END = signal.SIGTERM
"""Asks the shim to have its command end by itself, in time."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its tree now."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Blocked from the birth of a shim on, so that what arrives while its interpreter starts waits for it."""


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object that a file of an attempt holds; None where there is none, an empty one where it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
