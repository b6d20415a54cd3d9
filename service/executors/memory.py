"""Whether the kernel has killed for want of memory."""

from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int:
    """Return how often it has: in this process's cgroup where that counts (v2, then v1), else in the whole system.

    Args:
        root: where `proc` and `sys` lie.
    """
    for path in _counters(root):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for name, _, value in (line.partition(" ") for line in lines):
            if name == "oom_kill":
                return int(value)
    return 0


def _counters(root: Path) -> list[Path]:
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        groups = []
    cgroups = root / "sys/fs/cgroup"
    unified = [cgroups / path.lstrip("/") / "memory.events" for _, kinds, path in groups if not kinds]
    old = [
        cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
        for _, kinds, path in groups
        if "memory" in kinds.split(",")
    ]
    # In a container the path may be the host's, and the own cgroup be mounted as the root.
    here = [cgroups / "memory.events", cgroups / "memory/memory.oom_control"] if groups else []
    return [*unified, *old, *here, root / "proc/vmstat"]
