"""CPU cores: how many this process may use, and how its threads share them with other processes. Torch-free."""

import math
import os
from pathlib import Path

IDLE_THREADS_SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Variables of GNU's and of LLVM's (Intel's) OpenMP."""

NUM_THREADS = "OMP_NUM_THREADS"
"""The environment variable by which users choose the number of threads."""

BUSY = 0.75
"""Share of the cores that other processes use, above which a run is warned."""


def let_idle_threads_sleep() -> None:
    """Let idle threads of torch sleep rather than spin, unless the environment says otherwise.

    Threads that spin take the cores that the other threads of the machine need: two runs side by side were ten times
    slower than one. OpenMP reads the variables when torch is imported, so this must be called before. Results do not
    depend on it.
    """
    for name, value in IDLE_THREADS_SLEEP.items():
        os.environ.setdefault(name, value)


def num_cores(root: Path = Path("/")) -> int:
    """Return the number of CPU cores that this process may use: of its affinity, and at most its cgroups' quota.

    Args:
        root: contains proc and sys.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """Return the CPU quotas, in cores, of this process's cgroups (v2, then v1) and of those that contain them."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    mounts = {"": root / "sys/fs/cgroup", "cpu": root / "sys/fs/cgroup/cpu", "cpu,cpuacct": root / "sys/fs/cgroup/cpu"}
    quotas = []
    for _, kinds, path in groups:
        # In a container the path may be the host's, while its own cgroup is mounted as the root.
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents) if kinds in mounts else ():
            quotas += _quota_of(mounts[kinds] / folder)
    return quotas


def _quota_of(cgroup: Path) -> list[float]:
    try:
        if (file := cgroup / "cpu.max").exists():
            quota, period = file.read_text().split()
        else:
            quota, period = ((cgroup / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return [int(quota) / int(period)] if quota.strip() not in ("max", "-1") else []
    except (OSError, ValueError):
        return []


def busy_warning() -> str | None:
    """Return a warning if other processes use most cores of this machine; None if the user has chosen the threads.

    Call it before the run computes anything: the load average of the last minute then is that of other processes.
    """
    if NUM_THREADS in os.environ:
        return None
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < BUSY * cores:
        return None
    return (
        f"other processes keep {load:.1f} of this machine's {cores} CPU cores busy, and training takes "
        f"{num_cores()} threads besides; to share the cores, start each run with {NUM_THREADS}=N (the N of all runs "
        "together at most the number of cores)"
    )
