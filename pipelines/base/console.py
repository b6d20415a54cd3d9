"""Rich consoles that show untrusted text without obeying it. Torch-free."""

import io
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from pipelines.base.terminal import escape_controls


class SafeConsole(Console):
    """A console that escapes control characters in all texts and cells, so that only Rich's own reach the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text with its markup as styles."""
        return super().render_str(escape_controls(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the parts of anything that Rich can print."""
        if isinstance(renderable, Text) and (shown := escape_controls(renderable.plain)) != renderable.plain:
            renderable = Text(shown, renderable.style, justify=renderable.justify, overflow=renderable.overflow)
        return super().render(renderable, options)


def terminal_console() -> SafeConsole:
    """Return the console of the standard output, which cuts no lines of a file or a pipe to a terminal's width."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=160)


class _KeptText(io.StringIO):
    """Text with the encoding of the standard output: Rich draws tables in ASCII where it is not UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def plain_console(width: int) -> SafeConsole:
    """Return a console without colors that keeps what is printed, for `kept_text`."""
    return SafeConsole(file=_KeptText(), width=width, highlight=False, color_system=None)


def kept_text(console: Console) -> str:
    """Return what was printed to a `plain_console`, without spaces at the ends of lines."""
    assert isinstance(console.file, _KeptText)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())
