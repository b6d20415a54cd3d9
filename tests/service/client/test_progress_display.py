"""The display of a running job on a terminal."""

import io
import re
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from service.client.progress_display import ProgressDisplay
from service.rest.schemas import EventView


def event(kind: str, epoch: int = 0, **data: Any) -> EventView:
    return EventView.model_validate(
        {"seq": 1, "time": datetime.now(UTC), "kind": kind, "attempt": 2, "epoch": epoch, "step": 0, "data": data}
    )


def displayed(*events: EventView) -> str:
    """Return the output for a terminal of 100 columns, without colors and cursor movements."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    with ProgressDisplay(console) as screen:
        for one in events:
            screen.show(one)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def test_bar_shows_epoch_speed_time_left_and_losses() -> None:
    progress = {
        "batch": 3, "batches": 10, "max_epochs": 4, "images_per_s": 20.25, "left_s": 3661.0,
        "losses": {"train/shapes/boxes": 0.25},
    }  # fmt: skip
    text = displayed(event("stage", stage="training"), event("progress", epoch=1, **progress))
    assert "training" in text
    line = [line for line in re.split(r"[\r\n]+", text) if "epoch 2/4" in line][-1]
    assert "━" in line
    assert line.rstrip().endswith("20.2 images/s  1:01:01 left  shapes/boxes 0.250")


def test_bar_shows_work_that_is_counted() -> None:
    text = displayed(event("progress", done=30, total=120, unit="images", per_s=7.5, left_s=12.0))
    line = [line for line in re.split(r"[\r\n]+", text) if "30/120 images" in line][-1]
    assert line.rstrip().endswith("7.5 images/s  0:00:12 left")


def test_later_attempts_and_warnings_are_shown_but_not_the_first_status() -> None:
    text = displayed(
        event("status", **{"from": None, "to": "queued"}),
        event("status", **{"from": "running", "to": "queued", "message": "the trainer was killed"}),
        event("status", **{"from": "queued", "to": "starting"}),
        event("warning", message="MLflow does not [answer]"),
    )
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    assert "queued: the trainer was killed" in lines
    assert "starting, attempt 2" in lines
    assert "warning: MLflow does not [answer]" in lines
    assert "queued" not in lines


def test_metrics_of_gradients_are_not_shown() -> None:
    statistics = {"gradients/norm/cells": 0.5, "gradients/norm/mAP": 0.5, "gradients/cosine/cells.mAP": None}
    text = displayed(event("metric", **statistics))
    assert "epoch" not in text
    assert "cells" not in text
    assert "val/cells/AP50 0.250" in displayed(event("metric", **{"val/cells/AP50": 0.25}))
