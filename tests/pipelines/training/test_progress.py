"""Reports of training progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.events import read_events
from pipelines.training.progress import broken_into_lines, fitting


@pytest.mark.parametrize(("warmup_steps", "warns"), [(5, True), (4, False)])
def test_warm_up_longer_than_the_run_causes_a_warning(
    warmup_steps: int,
    warns: bool,
    small_document: dict[str, Any],
    train: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_document["data"]["sources"]["shapes"]["batch_size"] = 20
    small_document["trainer"] |= {"max_epochs": 4, "check_val_every_n_epoch": 4, "accumulate_grad_batches": 1}
    small_document["model"]["schedule"] = {"warmup_steps": warmup_steps}
    events = read_events(train(small_document, tmp_path).events)
    assert events[-1].step == 4
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    expected = f"model.schedule.warmup_steps: got {warmup_steps}, but the run has only 4 steps"
    assert [text.partition(": learning rates never")[0] for text in warnings] == [expected] * warns
    assert (f"warning: {expected}: learning" in capsys.readouterr().err) == warns


def test_line_fits_the_terminal_and_shows_that_something_is_left_out() -> None:
    parts = [
        "epoch 1/24",
        "batch 3/50",
        "38.1 images/s",
        "left 0:01:00",
        "cells/classification 0.712",
        "cells/boxes 0.5",
    ]
    assert fitting(parts, 200) == "  ".join(parts)
    assert fitting(parts, 80) == "epoch 1/24  batch 3/50  38.1 images/s  left 0:01:00  ..."
    assert fitting(parts, 30) == "epoch 1/24  batch 3/50  ..."
    for columns in range(1, 120):
        assert len(fitting(parts, columns)) < columns


def test_line_of_a_whole_epoch_continues_in_the_next_line_of_a_narrow_terminal() -> None:
    parts = ["epoch 1/24", "batch 50/50", "38.1 images/s", "left 0:01:00", "cells/classification 0.712"]
    assert broken_into_lines(parts, 200) == ["  ".join(parts)]
    assert broken_into_lines(parts, 40) == [
        "epoch 1/24  batch 50/50  38.1 images/s",
        "  left 0:01:00",
        "  cells/classification 0.712",
    ]
    assert broken_into_lines(parts, 10) == [parts[0], *(f"  {part}" for part in parts[1:])]


def test_line_of_an_epoch_shows_the_mean_losses_of_its_batches(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_document["trainer"]["max_epochs"] = 2
    events = read_events(train(small_document, tmp_path).events)
    lines = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        reported = [event.data["losses"] for event in events if event.kind == "progress" and event.epoch == epoch]
        assert line.startswith(f"epoch {epoch + 1}/2  batch 5/5")
        # Events are written at optimizer steps, that is for the batches 2, 4 and 5; the line has the mean of all five.
        last = reported[-1]["train/shapes/classification"]
        shown = float(line.split("shapes/classification ")[1].split()[0])
        assert shown != pytest.approx(last, abs=1e-3)
        assert 0 < shown < 10
