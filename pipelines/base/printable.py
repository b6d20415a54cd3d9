"""Text that every terminal, file and reader accepts. Torch-free."""

import re
import sys

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text with control characters and lone surrogates as escapes.

    Python reads a byte of a file name that is not UTF-8 as a surrogate; it is shown as the byte, as in `caf\xe9.png`.
    """
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


def is_encodable(text: str) -> bool:
    """Return whether text can be written as UTF-8; lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def accept_any_text() -> None:
    """Let stdout and stderr escape what their encoding cannot express, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match.group().encode("unicode_escape").decode()
