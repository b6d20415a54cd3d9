"""The learning rate as a pure function of the optimizer step."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pipelines.spec.learning import ScheduleSpec


def rate_factor(step: int, *, total_steps: int, spec: ScheduleSpec) -> float:
    """Return the factor of the base rate at `step`, counted from 0.

    After a linear warm-up from 1 / warmup_steps the factor is 1, or follows a half cosine down to `final_ratio` at the
    last step (SGDR, Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts).
    """
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    if spec.decay == "constant":
        return 1.0
    span = max(1, total_steps - 1 - spec.warmup_steps)
    progress = min(1.0, (step - spec.warmup_steps) / span)
    return spec.final_ratio + (1 - spec.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


def create_schedule(optimizer: Optimizer, spec: ScheduleSpec, total_steps: int) -> LambdaLR:
    """Return a scheduler; call its `step` after every optimizer step."""
    return LambdaLR(optimizer, lambda step: rate_factor(step, total_steps=total_steps, spec=spec))
