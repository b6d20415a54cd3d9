"""Facts about the processes (ranks) of one run that are known before torch is imported."""

import os
import sys

LOCAL_RANK = "LOCAL_RANK"
"""The environment variable that holds the number of a process among those of its host."""


def local_rank() -> int:
    """Return which process of this host this is; known before anything is set up."""
    return int(os.environ.get(LOCAL_RANK, "0"))


def is_rank_zero() -> bool:
    """Whether this process is the first of its run; known before Lightning is set up."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def say(text: str) -> None:
    """Print a line for people, on rank 0."""
    if is_rank_zero():
        print(text, file=sys.stderr, flush=True)
