"""Training ends when its score stops improving; with `min_delta: 1` no metric in [0, 1] is better than the first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.records import DatasetIndex
from pipelines.run_folder.events import EventLog, read_events
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import validate_document, write_yaml
from pipelines.spec.training import EarlyStoppingSpec
from pipelines.training.early_stopping import EarlyStopping
from pipelines.training.scoring import Scoring

Document = dict[str, Any]


def counted(document: Document, scores: list[float | None], min_delta: float = 0.0) -> list[int]:
    """Return the number of validations without improvement after each score."""
    model = validate_document(document).model
    spec = EarlyStoppingSpec(min_delta=min_delta)
    stopping = EarlyStopping(spec, Scoring(model, DatasetIndex({}, {})), EventLog(None))
    found = []
    for epoch, score in enumerate(scores):
        stopping.count(score, epoch)
        found.append(stopping.waited)
    return found


@pytest.mark.parametrize(
    ("scores", "min_delta", "expected"),
    [
        pytest.param([0.1, 0.2, 0.2, 0.1, 0.3, 0.3], 0.0, [0, 0, 1, 2, 0, 1], id="equal_is_not_better"),
        pytest.param([0.1, 0.14, 0.18, 0.2, 0.26], 0.05, [0, 1, 0, 1, 0], id="gains_add_up"),
        pytest.param([None, None, 0.1, None, 0.2], 0.0, [1, 2, 0, 1, 0], id="undefined_is_not_better"),
        pytest.param([float("nan"), 0.1, float("nan"), 0.2], 0.0, [1, 0, 1, 0], id="nan_is_never_better"),
        pytest.param([-1.0, float("nan"), -2.0], 0.0, [0, 1, 2], id="nan_is_not_remembered"),
    ],
)
def test_validations_since_the_best_are_counted(
    scores: list[float | None], min_delta: float, expected: list[int], small: Document
) -> None:
    assert counted(small, scores, min_delta) == expected


def test_lower_is_better_with_mode_min(small_document: Document) -> None:
    small_document["model"]["select"]["mode"] = "min"
    assert counted(small_document, [0.3, 0.2, 0.25, 0.1]) == [0, 0, 1, 0]


def test_counting_starts_in_the_epoch_in_which_all_parts_train(small_document: Document) -> None:
    small_document["model"]["unfreeze"] = {0: "none", 1: ["c5"], 3: "all"}
    small_document["trainer"]["max_epochs"] = 6
    assert counted(small_document, [0.5, 0.4, 0.3, 0.2, 0.4, 0.6]) == [0, 0, 0, 1, 2, 0]


@pytest.fixture
def without_improvement(small_document: Document) -> Document:
    small_document["trainer"] |= {
        "max_epochs": 5, "check_val_every_n_epoch": 2, "early_stopping": {"patience": 1, "min_delta": 1.0},
    }  # fmt: skip
    return small_document


def read_json(path: Path) -> Document:
    content: Document = json.loads(path.read_text())
    return content


def epochs(events: list[Document], kind: str) -> list[int]:
    return sorted({event.epoch for event in events if event.kind == kind})


def test_early_stop_is_reported_and_scored_and_a_second_call_does_not_train(
    without_improvement: Document,
    command: Callable[..., int],
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "job.yaml").write_text(write_yaml(without_improvement))
    run_dir = RunDir.of(tmp_path / "run")
    words = ("fit", "--config", tmp_path / "job.yaml", "--data.root", demo_root, "--run-dir", run_dir.path)
    assert command(*words) == 0
    assert "\nstopped early at epoch 4: no improvement in one validation\n" in capsys.readouterr().err
    events = read_events(run_dir.events)
    assert epochs(events, "progress") == [0, 1, 2, 3]
    assert epochs(events, "metric") == [1, 3]
    (stage,) = [event for event in events if event.data.get("stage") == "stopped_early"]
    assert stage.data["message"] == "stopped early at epoch 4: no improvement in one validation"
    assert [event.data["left_s"] for event in events if event.kind == "progress"][-1] == 0.0
    result = read_json(run_dir.result)

    run_dir.result.unlink()  # as if the process had been killed before
    assert command(*words) == 0
    later = read_events(run_dir.events)[len(events) :]
    assert {event.kind for event in later} == {"stage"}
    assert "stopped early" not in capsys.readouterr().err
    again = read_json(run_dir.result)
    assert {**again, "timing": None} == {**result, "timing": None}
