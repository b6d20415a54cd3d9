"""Times for display and for names of folders."""

import time
from datetime import datetime, timedelta


def format_duration(seconds: float) -> str:
    """Return a duration as [days,] h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


def format_moment(moment: datetime) -> str:
    """Return a time as local date and time, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def folder_timestamp() -> str:
    """Return the current local time, to the second, for the name of a folder."""
    return time.strftime("%Y%m%d-%H%M%S")
