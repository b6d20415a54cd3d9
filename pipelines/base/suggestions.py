"""Suggestions for misspelled names."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `did you mean 'x'` for the choice that is most similar to `name`; an empty string if none is similar."""
    similar = difflib.get_close_matches(name, list(choices), n=1)
    return f"did you mean {similar[0]!r}" if similar else ""
