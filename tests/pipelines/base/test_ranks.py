"""The rank of a process and the number of ranks: with and without a process group, and without torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

from pipelines.base.ranks import is_distributed, is_rank_zero, local_rank, print_rank_zero, rank, world_size

WITHOUT_TORCH = """
import sys
from pipelines.base.ranks import is_distributed, rank, world_size
assert (is_distributed(), rank(), world_size()) == (False, 0, 1)
assert "torch" not in sys.modules
"""


def test_rank_and_world_size_are_known_without_importing_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, timeout=60)


def test_process_without_a_group_is_rank_0_of_1() -> None:
    assert (is_distributed(), rank(), world_size()) == (False, 0, 1)


def test_process_group_is_detected(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        assert (is_distributed(), rank(), world_size()) == (True, 0, 1)
    finally:
        distributed.destroy_process_group()
    assert not is_distributed()


def test_only_rank_0_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RANK", raising=False)
    for number in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", number)
        assert (local_rank(), is_rank_zero()) == (int(number), number == "0")
        print_rank_zero(f"line of rank {number}")
    assert capsys.readouterr().err == "line of rank 0\n"
