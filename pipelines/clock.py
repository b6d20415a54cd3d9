"""Times for display and for names of folders."""

import time


def format_duration(seconds: float) -> str:
    """Return a duration as [h:]mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def folder_timestamp() -> str:
    """Return the current local time, to the second, for the name of a folder."""
    return time.strftime("%Y%m%d-%H%M%S")
