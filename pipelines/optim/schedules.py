"""The learning rate as a function of the optimizer step and the length of the run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pipelines.spec.learning import ScheduleSpec


class Decay:
    """The share of the decay that is done at each step, which grows linearly up to 1 at the last step of the run.

    The last step may change during the run. The share stays as it is then, and what remains of the decay is spread over
    the remaining steps, so that the rates have no jump and the run still ends with the final rate.

    Attributes:
        state: the step and the share at which the present line starts, and the step at which it reaches 1.
    """

    def __init__(self, first_step: int, last_step: int) -> None:
        self.state: tuple[int, float, int] = (first_step, 0.0, last_step)

    def share(self, step: int) -> float:
        """Return the share at a step, at most 1; negative before the first step."""
        first, done, last = self.state
        return done + (1 - done) * min(1.0, (step - first) / max(1, last - first))

    def end_at(self, last_step: int, now: int) -> None:
        """Let the decay end at another step; `now` is the next step."""
        first, done, _ = self.state
        if now > first:
            first, done = now, self.share(now)
        self.state = (first, done, last_step)


def rate_factor(step: int, decay: Decay, spec: ScheduleSpec) -> float:
    """Return the factor of the base rate at `step`, counted from 0.

    After a linear warm-up from 1 / warmup_steps the factor is 1, or follows a half cosine down to `final_ratio` at the
    last step (SGDR, Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts).
    """
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    if spec.decay == "constant":
        return 1.0
    return spec.final_ratio + (1 - spec.final_ratio) * 0.5 * (1 + math.cos(math.pi * decay.share(step)))


def decay_of(spec: ScheduleSpec, total_steps: int) -> Decay:
    """Return the decay of a run of `total_steps`, after its warm-up."""
    return Decay(spec.warmup_steps, total_steps - 1)


def create_schedule(optimizer: Optimizer, spec: ScheduleSpec, decay: Decay) -> LambdaLR:
    """Return a scheduler; call its `step` after every optimizer step. It follows changes of `decay`."""
    return LambdaLR(optimizer, lambda step: rate_factor(step, decay, spec))
