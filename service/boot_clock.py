"""The clock of the current boot, which nobody can set, and which all processes of a host share. Linux only."""

import time
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """Return the kernel's random id of the current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def uptime_s() -> float:
    """Return the seconds since the boot, including those in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
