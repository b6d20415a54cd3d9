"""The benchmark for GPUs runs on the CPU too, with small images."""

import pytest
import torch

from tests.bench import gpu

SMALL = ["--device=cpu", "--size=64", "--batch=2", "--steps=1", "--rounds=1", "--workers=0", "--backbone=resnet14_thin"]


@pytest.mark.slow
def test_both_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*SMALL, "--heads", "retinanet", "--backend", "none"])
    shown = capsys.readouterr().out
    assert "| | loader alone, 0 workers | steps alone | both | time spent waiting |" in shown
    assert shown.count("| retinanet | ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcos", "faster_rcnn"])
def test_compiled_steps_of_other_heads_are_compared(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*SMALL, "--heads", head, "--backend", "eager"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {head} | "))
    rates = [cell.strip() for cell in row.split("|")[2:-1]]
    assert [bool(rate) for rate in rates] == [True, False, True, False, True, True, False, True, True]


def test_rows_that_would_take_too_long_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.parse([*SMALL]).heads == ["retinanet", "fcos", "faster_rcnn"]
    gpu.main([*SMALL, "--minutes", "0"])
    assert "bench: fcos is skipped, because 0 minutes have passed" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_reported() -> None:
    with pytest.raises(SystemExit, match="bench: torch finds no GPU; use a machine with one, or try"):
        gpu.main([])


def test_size_that_the_network_does_not_take_is_reported() -> None:
    with pytest.raises(SystemExit, match="--size: got 100; write a multiple of 32"):
        gpu.main(["--device", "cpu", "--size", "100"])
