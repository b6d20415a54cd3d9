"""Reports of training progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.events import read_events


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
