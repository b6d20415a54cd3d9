"""An exponential moving average of the weights, for validation and the best checkpoint."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from pipelines.training.lightning_internals import averaged_state


class EMA(WeightAveraging):
    """Keeps an exponential moving average of parameters and buffers, which validation and checkpoints use.

    After t optimizer steps the decay is min(decay, (1 + t) / (10 + t)).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, avg_fn=self.average)
        self.decay = decay

    def average(self, averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        """Return the next average of one tensor; counters are taken from the model in training."""
        if not averaged.is_floating_point():
            return current
        steps = int(num_averaged)
        return averaged.lerp(current, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged module's state dict."""
        return averaged_state(self)
