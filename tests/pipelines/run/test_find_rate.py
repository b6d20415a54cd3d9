"""`lr-find`: the suggestion from given losses, and the command on real data."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.spec.load import write_yaml
from pipelines.training.rate_range import RateRange, suggested_rate

Document = dict[str, Any]


def test_rate_grows_by_the_same_factor_in_each_step(losses_of: Callable[..., RateRange]) -> None:
    test = losses_of(lambda rate: 1.0)
    assert [point.rate for point in test.points[::25]] == pytest.approx([1e-6, 1e-6**0.75, 1e-3, 1e-6**0.25, 1.0])
    assert [point.mean_loss for point in test.points] == pytest.approx([1.0] * 101)


@pytest.fixture
def losses_of() -> Callable[..., RateRange]:
    """Return a range test of 101 steps whose losses are a function of the rate."""

    def run(loss: Callable[[float], float]) -> RateRange:
        test = RateRange(num_steps=101)
        for rate in test.rates:
            test.record(loss(rate))
        return test

    return run


def test_suggestion_is_where_the_loss_falls_most_steeply(losses_of: Callable[..., RateRange]) -> None:
    # A step of the loss at 1e-3, over a factor of about 10; the mean of the last ten steps lags by as much.
    test = losses_of(lambda rate: 2 - 1 / (1 + (1e-3 / rate) ** 2) + (10 * rate) ** 4)
    suggested = suggested_rate(test.points)
    assert suggested is not None
    assert 1e-3 < suggested < 5e-3


@pytest.mark.parametrize("loss", [lambda rate: 1.0 + rate, lambda rate: 1.0], ids=["rises", "stays"])
def test_loss_that_does_not_fall_suggests_nothing(
    loss: Callable[[float], float], losses_of: Callable[..., RateRange]
) -> None:
    assert suggested_rate(losses_of(loss).points) is None
    assert suggested_rate([]) is None


@pytest.mark.usefixtures("command_line")
def test_command_suggests_a_rate_draws_it_and_leaves_everything_else_untouched(
    small_document: Document,
    command: Callable[..., int],
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small_document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel"}},
        "transfer": "discriminative",
    }
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    small_document["data"] |= {"image_size": 32}
    (tmp_path / "job.yaml").write_text(write_yaml(small_document))
    words = ("lr-find", "--config", tmp_path / "job.yaml", "--data.root", demo_root, "--out", tmp_path / "range.png")
    assert command(*words, "--steps", "25", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["field"], found["current"]) == ("model.optimizer.lr", 2e-3)
    assert 5 < len(found["points"]) <= 25
    assert all(math.isfinite(point["loss"]) for point in found["points"])
    assert found["suggested"] is None or 1e-6 < found["suggested"] <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml", "range.png"]
    with Image.open(tmp_path / "range.png") as picture:
        assert picture.format == "PNG"
    assert command(*words, "--steps", "5") == 78
    assert "--steps: got 5; write at least 20" in capsys.readouterr().err
