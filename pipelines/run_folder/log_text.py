"""The text of attempts' logs, as a terminal would show it in the end."""

import re
from pathlib import Path

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_OVERWRITTEN = re.compile(r"^[^\n]*\r(?=[^\r\n])", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(raw: bytes) -> str:
    """Return text without colors, overwritten parts of lines, and control characters; all line ends are kept."""
    text = raw.decode("utf-8", errors="replace")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if "\r" in text:
        text = _OVERWRITTEN.sub("", text)
    return _CONTROL.sub("", text)


def log_tail(path: Path, max_bytes: int = 1 << 14) -> list[str]:
    """Return the cleaned lines that start in the last `max_bytes` of a log; an empty list if the log is missing."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - max_bytes)
            file.seek(start)
            raw = file.read(max_bytes)
    except OSError:
        return []
    if start:
        raw = raw[raw.find(b"\n") + 1 :]
    return clean(raw).removesuffix("\n").split("\n")
