"""A Rich console whose text is kept, for a standard output of any encoding. Torch-free."""

import io
import sys

from rich.console import Console


class _KeptText(io.StringIO):
    """Text with the encoding of the standard output: Rich draws tables in ASCII where it is not UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def plain_console(width: int) -> Console:
    """Return a console without colors that keeps what is printed, for `kept_text`."""
    return Console(file=_KeptText(), width=width, highlight=False, color_system=None)


def kept_text(console: Console) -> str:
    """Return what was printed to a `plain_console`, without spaces at the ends of lines."""
    assert isinstance(console.file, _KeptText)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())
