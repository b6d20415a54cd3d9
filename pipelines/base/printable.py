"""Text that every terminal, file and reader accepts. Torch-free."""

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

MAX_LENGTH = 200
"""Names and values in reports for people are shortened if they have more characters."""
_LONG = re.compile(
    rf"""(`pyramidion [^`]*`)|(?<!\w)'[^']{{{MAX_LENGTH},}}'(?!\w)|"[^"]{{{MAX_LENGTH},}}"|\[[^\]]{{{MAX_LENGTH},}}\]"""
    rf"|\S{{{MAX_LENGTH + 1},}}"
)


def printable(text: str) -> str:
    r"""Return text with control characters and lone surrogates as escapes.

    Python reads a byte of a file name that is not UTF-8 as a surrogate; it is shown as the byte, as in `caf\xe9.png`.
    """
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


def shortened(text: str) -> str:
    """Return a text of at most 200 characters as it is, and a longer one without its middle."""
    return text if len(text) <= MAX_LENGTH else f"{text[:120]}...{text[-60:]}"


def shorten_values(message: str) -> str:
    """Return a message in which words, quoted values and lists of more than 200 characters lack their middle.

    Commands to copy, such as `pyramidion data split`, are kept.
    """
    return _LONG.sub(lambda match: match.group() if match.group(1) else shortened(match.group()), message)


def is_encodable(text: str) -> bool:
    """Return whether text can be written as UTF-8; lone surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match.group().encode("unicode_escape").decode()
