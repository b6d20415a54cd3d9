"""Settings of learning: optimizer, learning rates by stage, and when each stage trains."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from backbones.spec.section import Stage
from pipelines.base.names import TaskName
from pipelines.spec.base import CountOrZero, Positive, Probability, Spec

Transfer = Literal["full", "freeze", "discriminative", "gradual", "lp-ft"]


def _starts_at_zero(unfreeze: Mapping[int, str | Sequence[str]]) -> Mapping[int, str | Sequence[str]]:
    if 0 not in unfreeze or min(unfreeze) < 0:
        raise ValueError(
            f"got the epochs {sorted(unfreeze)}; epochs count from 0, and 0 must be given, as in {{0: none, 4: all}}"
        )
    return dict(sorted(unfreeze.items()))


Unfreeze = Annotated[dict[int, Literal["none", "all"] | tuple[Stage, ...]], AfterValidator(_starts_at_zero)]
"""Epoch -> the complete set of backbone stages that train from then on; neck and heads always train."""

Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSpec(Spec):
    """AdamW, or SGD with Nesterov momentum; weight decay is not applied to biases and norms."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Momentum = Field(0.9, description="momentum of sgd")
    betas: tuple[Momentum, Momentum] = Field((0.9, 0.999), description="betas of adamw")


class ScheduleSpec(Spec):
    """Linear warm-up, then decay to `final_ratio` of the learning rate at the last step."""

    warmup_steps: CountOrZero = 0
    decay: Literal["cosine", "constant"] = "cosine"
    final_ratio: Probability = 0.01


class EMASpec(Spec):
    """Exponential moving average of the weights, with decay min(decay, (1 + t) / (10 + t)) after t steps."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9998
    horizon: Annotated[float, Field(gt=0, le=0.5)] | None = Field(
        None,
        description="mean age of the averaged weights as a share of the steps so far; the decay is then "
        "(1 + t) / (1 / horizon + t) after t steps, at any length of the run, and `decay` is not used",
    )

    def decay_after(self, num_steps: int) -> float:
        """Return the decay of the average after a number of optimizer steps."""
        if self.horizon is not None:
            return (1 + num_steps) / (1 / self.horizon + num_steps)
        return min(self.decay, (1 + num_steps) / (10 + num_steps))


class SelectSpec(Spec):
    """The metric that selects the best checkpoint and the champion."""

    metric: str
    mode: Literal["max", "min"] = "max"


class RateScaleSpec(Spec):
    """Factors of learning rates, in addition to `layer_decay`; a factor of 0 freezes the part."""

    stages: dict[Literal["c3", "c4", "c5", "neck"], Annotated[float, Field(ge=0)]] = Field(
        {}, description="factors of backbone stages and neck"
    )
    tasks: dict[TaskName, Annotated[float, Field(ge=0)]] = Field({}, description="factors of the tasks' heads")

    @property
    def frozen_parts(self) -> frozenset[str]:
        """Stages, `neck` and `heads.<task>` that never train."""
        frozen = [stage for stage, factor in self.stages.items() if factor == 0]
        return frozenset([*frozen, *(f"heads.{task}" for task, factor in self.tasks.items() if factor == 0)])
