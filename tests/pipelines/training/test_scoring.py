"""The best checkpoint is selected by the configured metric: maximum, minimum, or undefined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override

Document = dict[str, Any]


@pytest.fixture(scope="module")
def three_epochs(small: Document) -> Document:
    """Three epochs without averaging, in which the metric goes up and down."""
    return apply_override(apply_override(small, "model.ema", None), "trainer.max_epochs", 3)


@pytest.mark.parametrize(("mode", "pick"), [("max", max), ("min", min)])
def test_best_checkpoint_is_the_first_with_the_best_metric_and_has_raw_weights_without_ema(
    mode: str,
    pick: Callable[..., float],
    three_epochs: Document,
    train: Callable[..., RunDir],
    tmp_path: Path,
) -> None:
    select = {"metric": "val/scene/mAP", "mode": mode}
    run_dir = train(apply_override(three_epochs, "model.select", select), tmp_path)
    metrics = [event for event in read_events(run_dir.events) if event.kind == "metric"]
    values = [event.data["val/scene/mAP"] for event in metrics]
    best = torch.load(run_dir.best_checkpoint, weights_only=True)
    epoch = values.index(pick(values))
    assert (best["epoch"], best["select"]["value"]) == (epoch, values[epoch])
    assert best["val"]["summary"] == metrics[epoch].data
    last = torch.load(run_dir.last_checkpoint, weights_only=True)
    names = {"Best", "Checkpoints", "Progress", "RankChanges"}
    assert last["callbacks"].keys() == names, "earlier versions' checkpoints have these"
    raw = {f"model.{name}": tensor for name, tensor in best["state_dict"].items()}
    assert raw.keys() == last["state_dict"].keys()
    if epoch == 2:
        assert all(torch.equal(tensor, last["state_dict"][name]) for name, tensor in raw.items())


def test_run_with_an_undefined_metric_keeps_its_last_weights_and_says_so(
    small: Document, train: Callable[..., RunDir], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select = {"metric": "val/scene/accuracy", "mode": "max"}
    document = apply_override(apply_override(small, "model.select", select), "trainer.max_epochs", 2)
    run_dir = train(document, tmp_path)
    best = torch.load(run_dir.best_checkpoint, weights_only=True)
    assert (best["epoch"], best["select"]["value"]) == (1, None)
    assert "epoch 2  val/scene/accuracy undefined  (the last weights are kept)\n" in capsys.readouterr().err
