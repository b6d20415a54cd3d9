"""An exponential moving average of the weights, for validation and the best checkpoint."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from pipelines.spec.learning import EMASpec
from pipelines.training.lightning_internals import averaged_state


class EMA(WeightAveraging):
    """Keeps an exponential moving average of parameters and buffers, which validation and checkpoints use.

    With a `horizon` h the decay after t steps is (1 + t) / (1 / h + t): the polynomial-decay averaging of Shamir and
    Zhang 2013 (arXiv 1212.1824, section 4) with eta = 1 / h - 2. Weights from k steps ago count in proportion to
    (1 - k / t) ** eta, so the average covers the same share of the run at any time, and no length has to be known.
    """

    def __init__(self, spec: EMASpec) -> None:
        super().__init__(use_buffers=True, avg_fn=self.average)
        self.spec = spec

    def average(self, averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        """Return the next average of one tensor; counters are taken from the model in training."""
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current, 1 - self.spec.decay_after(int(num_averaged)))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged module's state dict."""
        return averaged_state(self)
