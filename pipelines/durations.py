"""Durations as text. Torch-free."""

from datetime import timedelta


def format_duration(seconds: float) -> str:
    """Return a duration as [days,] h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))
