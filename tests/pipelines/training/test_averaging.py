"""Unit tests of averaged weights; `test_resume.py` tests them in a run."""

from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from pipelines.spec.learning import EMASpec
from pipelines.training.averaging import EMA


class Regression(lightning.LightningModule):
    """A BatchNorm and a linear layer; records its weights after each optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
        self.seen: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.net(batch).square().mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % 2 == 0:
            self.seen.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validated.append({name: tensor.clone() for name, tensor in self.state_dict().items()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def test_average_equals_an_explicit_loop_over_optimizer_steps_and_is_used_in_validation() -> None:
    ema, module = EMA(EMASpec(decay=0.6)), Regression()
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", accumulate_grad_batches=2, callbacks=[ema], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    batches = list(torch.randn(16, 4, 3, generator=torch.Generator().manual_seed(1)))
    trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches[:1], batch_size=None))

    average = {name: tensor.clone() for name, tensor in module.seen[0].items()}
    decays = []
    for step, current in enumerate(module.seen[1:], start=1):
        decay = min(0.6, (1 + step) / (10 + step))
        decays.append(decay)
        for name, tensor in current.items():
            mixed = decay * average[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor
            average[name] = mixed
    assert decays[0] == 2 / 11
    assert len(module.seen) == 8
    assert average.keys() == ema.weights.keys() == module.validated[0].keys()
    for name, tensor in average.items():
        torch.testing.assert_close(ema.weights[name], tensor)
        torch.testing.assert_close(module.validated[0][name], tensor)
    assert not torch.allclose(ema.weights["net.1.weight"], module.seen[-1]["net.1.weight"])


@pytest.mark.parametrize("horizon", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("num_steps", [300, 30_000])
def test_average_covers_the_same_share_of_a_run_of_any_length(horizon: float, num_steps: int) -> None:
    spec = EMASpec(horizon=horizon)
    # The average of the step numbers themselves: its distance from the last one is the mean age of the weights.
    average = 0.0
    for step in range(1, num_steps + 1):
        decay = spec.decay_after(step)
        average = decay * average + (1 - decay) * step
    assert (num_steps - average) / num_steps == pytest.approx(horizon, rel=0.05)


def test_horizon_of_a_tenth_is_the_ramp_of_a_fixed_decay() -> None:
    fixed, relative = EMASpec(), EMASpec(horizon=0.1)
    assert [fixed.decay_after(step) for step in (0, 300, 3000)] == [
        relative.decay_after(step) for step in (0, 300, 3000)
    ]
    assert relative.decay_after(200_000) > fixed.decay_after(200_000) == 0.9998
