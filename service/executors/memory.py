"""The kernel's counts of processes that it killed because memory ran out."""

from pathlib import Path


def oom_kills(root: Path = Path("/")) -> int:
    """Return the number of kills in this process's cgroup (v2, then v1); in the whole system if it has no count.

    Args:
        root: folder of `proc` and `sys`.
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
    # In a container the path may be the host's, while its own cgroup is mounted as the root.
    here = [cgroups / "memory.events", cgroups / "memory/memory.oom_control"] if groups else []
    return [*unified, *old, *here, root / "proc/vmstat"]
