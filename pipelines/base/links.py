"""Links that lead out of a root: refused, unless the user of a command line follows them. Torch-free.

The policy belongs to the process, because every reader of label files resolves paths: commands set it once when they
parse their options, and the service never changes it.
"""

import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.printable import printable

LINKS_VARIABLE = "PYRAMIDION_LINKS"
"""The service sets it to `refuse` in processes that it starts, so that no option of theirs follows links."""

FOLLOW_LINKS_OPTION = "--follow-links"

LinkPolicy = Literal["refuse", "offer", "follow"]
"""Treatment of a link that leads out of its root: it is refused; it is refused, and the message names the option
that follows it; or it is followed."""

_policy: ContextVar[LinkPolicy] = ContextVar("link_policy", default="refuse")


def link_policy() -> LinkPolicy:
    """Return the policy of this process."""
    return _policy.get()


def set_link_policy(*, follow: bool, environ: Mapping[str, str] = os.environ) -> None:
    """Set the policy of a command that has the option `--follow-links`."""
    _policy.set("refuse" if environ.get(LINKS_VARIABLE) == "refuse" else "follow" if follow else "offer")


def require_inside(path: Path, root: Path, name: str) -> None:
    """Check that a path, with links resolved, is inside a root, if the policy is not to follow links.

    Raises:
        ValueError: the path leaves the root.
    """
    if _policy.get() == "follow" or path.is_relative_to(root.resolve()):
        return
    offer = f"; add {FOLLOW_LINKS_OPTION} to the command to follow it" if _policy.get() == "offer" else ""
    raise ValueError(f"{name!r} is a link that leads out of {root}{offer}")


def walk(folder: Path, *, lists_all: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the same as `os.walk`; linked folders are entered if links are followed, each real folder once.

    Args:
        folder: where to start.
        lists_all: whether a folder that cannot be listed is an error; otherwise it is left out.

    Raises:
        DataError: a folder cannot be listed.
    """
    on_error = _raise_unlisted if lists_all else None
    if _policy.get() != "follow":
        yield from os.walk(folder, onerror=on_error)
        return
    entered: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        yield parent, folders, files


def _raise_unlisted(error: OSError) -> None:
    name = printable(str(error.filename))
    shown = name if len(name) <= 200 else f"{name[:100]}...{name[-80:]}"
    raise DataError(
        FieldProblem(shown, f"the folder cannot be listed ({error.strerror}); change its permissions, or move it away")
    )
