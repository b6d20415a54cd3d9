"""What is told of a run while it goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.events import read_events


@pytest.mark.parametrize(("warmup_steps", "is_told"), [(5, True), (4, False)])
def test_warm_up_that_is_longer_than_the_run_is_told(
    warmup_steps: int,
    is_told: bool,
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
    told = [event.data["message"] for event in events if event.kind == "warning"]
    expected = (
        f"model.schedule.warmup_steps: got {warmup_steps}, and the run has 4 steps: its rates never come to their top"
    )
    assert [text.partition("; ")[0] for text in told] == [expected] * is_told
    assert (f"warning: {expected}; " in capsys.readouterr().err) == is_told
