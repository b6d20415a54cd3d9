"""Out-of-memory kills are read from the counter closest to this process."""

from pathlib import Path

import pytest

from service.executors.memory import oom_kills

V1, V2 = "4:cpu,cpuacct:/\n3:memory:/job\n0::/\n", "0::/job\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, 0),
        ({"proc/vmstat": "pgfault 9\noom_kill 4\n"}, 4),
        ({"proc/self/cgroup": V2, "proc/vmstat": "oom_kill 4\n"}, 4),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/job/memory.events": "oom 5\noom_kill 2\noom_group_kill 0\n",
                "proc/vmstat": "oom_kill 4\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0\noom_kill 3\n",
                "proc/vmstat": "oom_kill 4\n",
            },
            3,
        ),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/memory.events": "oom_kill 1\n"}, 1),
    ],
    ids=["nothing", "system", "not counted", "v2", "v1", "a container's own root"],
)
def test_closest_counter_is_read(tmp_path: Path, files: dict[str, str], wanted: int) -> None:
    write(tmp_path, files)
    assert oom_kills(tmp_path) == wanted


def test_counter_of_this_machine_is_read() -> None:
    assert oom_kills() >= 0
