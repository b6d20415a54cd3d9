"""Averaged weights, which validation and the best checkpoint use."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel


class EMA(WeightAveraging):
    """Keeps an exponential moving average of parameters and buffers; validation and checkpoints use it.

    After t optimizer steps the decay is min(decay, (1 + t) / (10 + t)).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, avg_fn=self._average)
        self.decay = decay

    def _average(self, averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        steps = int(num_averaged)
        return averaged.lerp(current, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged module's state dict."""
        assert isinstance(self._average_model, AveragedModel)
        return dict(self._average_model.module.state_dict())
