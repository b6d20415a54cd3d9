"""The contract of the local executor and its shim: the files of an attempt, and signals."""

import json
import signal
from pathlib import Path
from typing import Any

RUN = "run.json"
LOG = "log.txt"
EXIT = "exit.json"

END = signal.SIGTERM
"""Asks the shim to end its command within its grace."""

KILL = signal.SIGUSR1
"""Asks the shim to kill its tree at once."""

HELD = frozenset({END, KILL, signal.SIGINT, signal.SIGHUP})
"""Signals that are blocked when a shim starts, so that those that arrive early wait for its interpreter."""


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file of an attempt; None if the file is missing, empty if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
