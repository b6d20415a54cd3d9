"""The standard output and error of a command, which show untrusted text without obeying it. Torch-free.

Names of classes and files, log lines and messages of other programs may contain control sequences, with which a
terminal moves its cursor, changes its title, or types text as if the user had typed it. `escaped_output` is the one
place that keeps them from the terminal; tables use `pipelines.base.console.SafeConsole`.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Everything but the tab, the line feed, and the carriage return of progress bars."""
_CONTROLS_BUT_COLORS = re.compile(rf"(?!\x1b\[[0-9;]*m){_CONTROLS.pattern}")


def escape_controls(text: str, *, keep_colors: bool = False) -> str:
    r"""Return text with control characters and lone surrogates as escapes such as `\u001b`.

    Args:
        text: may have several lines.
        keep_colors: keep the sequences that only change colors, which argparse and tracebacks of Python use.
    """
    pattern = _CONTROLS_BUT_COLORS if keep_colors else _CONTROLS
    return pattern.sub(lambda match: f"\\u{ord(match.group()):04x}", text) if pattern.search(text) else text


class EscapingStream:
    """Writes to a text stream; all other attributes are those of the stream.

    Attributes:
        rich_proxied_file: the stream itself, to which Rich writes its own sequences.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write text with escapes in place of control characters; return the length of `text`."""
        self.rich_proxied_file.write(escape_controls(text, keep_colors=self.rich_proxied_file.isatty()))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escape control characters in everything that is printed to stdout and stderr, and what their encoding lacks."""
    streams = sys.stdout, sys.stderr
    escape_output()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def escape_output() -> None:
    """Do what `escaped_output` does until the process ends."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when Python started
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if not isinstance(stream, EscapingStream):
            setattr(sys, name, EscapingStream(stream))


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream to which a program writes its own control sequences, never text of others."""
    inner: TextIO = getattr(stream, "rich_proxied_file", stream)
    return inner


def redraws_lines(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can draw a line again; a dumb one prints the control characters."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
