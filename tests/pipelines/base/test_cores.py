"""Cores that a process may use, and the warning about a busy machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.base.cores import busy_warning, num_cores

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("groups", "quotas", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/host/path\n", {"cpu.max": "50000 100000\n"}, 1),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "200000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 64),
        ("0::/\n", {"cpu.max": "broken\n"}, 64),
        (None, {}, 64),
    ],
)
def test_cores_are_those_of_the_affinity_up_to_the_quota_of_the_cgroups(
    groups: str | None, quotas: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    texts = {f"sys/fs/cgroup/{name}": text for name, text in quotas.items()}
    for name, text in {**texts, **({"proc/self/cgroup": groups} if groups else {})}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_cores(tmp_path) == expected


def test_busy_machine_is_warned_about_unless_the_threads_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.4, 0.0, 0.0))
    assert busy_warning() is None
    monkeypatch.setattr(os, "getloadavg", lambda: (2.04, 0.0, 0.0))
    assert "other processes keep 2.0 of this machine's 2 CPU cores busy" in str(busy_warning())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert busy_warning() is None


def test_threads_of_a_command_sleep_while_they_wait_unless_the_user_decides_otherwise() -> None:
    script = (
        "import os, pipelines.cli; pipelines.cli.main(['check']); "
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['KMP_BLOCKTIME'])"
    )
    environment = {name: text for name, text in os.environ.items() if name not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    for more, expected in (({}, "PASSIVE 0"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE 0")):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**environment, "PYTHONPATH": str(ROOT), **more},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split("\n")[0] == expected
