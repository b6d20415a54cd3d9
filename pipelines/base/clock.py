"""Durations and times for display, for documents and for names of folders."""

import re
import time
from datetime import datetime, timedelta

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


def format_duration(seconds: float) -> str:
    """Return a duration as [days,] h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `90s`, `8m`, `2h`, `1h30m` or `1.5d`; raises ValueError."""
    compact = text.replace(" ", "")
    seconds = 0.0
    if _DURATION.fullmatch(compact):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", compact))
    if seconds <= 0:
        raise ValueError(f"got {text!r}; write a duration above 0, such as 90s, 8m, 2h or 1h30m")
    return seconds


def format_moment(moment: datetime) -> str:
    """Return a time as local date and time, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def folder_timestamp() -> str:
    """Return the current local time, to the second, for the name of a folder."""
    return time.strftime("%Y%m%d-%H%M%S")
