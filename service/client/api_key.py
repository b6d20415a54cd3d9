"""The API key that the client sends, from the environment. It is never part of a message."""

import os
import re
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem

KEY_VARIABLE = "PYRAMIDION_API_KEY"
KEY_FILE_VARIABLE = "PYRAMIDION_API_KEY_FILE"
_TEXT = re.compile(r"[!-~]+", re.ASCII)


def find_api_key() -> str | None:
    """Return the key of `PYRAMIDION_API_KEY`, otherwise of the file `PYRAMIDION_API_KEY_FILE`; None without both.

    Raises:
        ConfigError: the file cannot be read, or the key contains characters that a header cannot have.
    """
    if text := os.environ.get(KEY_VARIABLE, "").strip():
        return _checked(KEY_VARIABLE, text)
    if not (name := os.environ.get(KEY_FILE_VARIABLE)):
        return None
    try:
        text = Path(name).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        message = f"the file {name!r} cannot be read ({why}); write the key into it"
        raise ConfigError(FieldProblem(KEY_FILE_VARIABLE, message)) from None
    return _checked(KEY_FILE_VARIABLE, text)


def _checked(variable: str, text: str) -> str:
    if not _TEXT.fullmatch(text):
        message = "the key is empty or has blanks or other unusual characters; copy it again"
        raise ConfigError(FieldProblem(variable, message))
    return text
