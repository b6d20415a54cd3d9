"""Commands that messages suggest, with the files that the user's own command names. Torch-free.

A message about the data is written where neither the document's file nor the data roots are known. Commands therefore
register their arguments once, when they parse them. The service never does, so that its messages name no file.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

from pipelines.base.links import LINKS_VARIABLE

_arguments: ContextVar[str | None] = ContextVar("data_arguments", default=None)


def set_data_arguments(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
    """Set the arguments that name the document and its data; a process that the service started has none."""
    is_of_service = environ.get(LINKS_VARIABLE) == "refuse"
    _arguments.set(None if is_of_service or not words else shlex.join(words))


def suggested(command: str, options: str = "") -> str:
    """Return a command line that can be copied: the command, the arguments for the user's data, and options."""
    return " ".join(part for part in ("pyramidion", command, _arguments.get() or "", options) if part)


def next_steps(*commands: str) -> str:
    """Return the lines that name the commands to run next, for the end of a command's output."""
    return "\n".join(["Next:", *(f"  {suggested(command)}" for command in commands)])
