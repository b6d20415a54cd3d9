"""`trainer` and `tracking`: duration and hardware of training, and the MLflow run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from pipelines.base.clock import parse_duration
from pipelines.spec.base import Count, Spec

SHARDED = ("fsdp", "deepspeed")


def _require_duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[str, AfterValidator(_require_duration)]
"""A duration such as 90s, 8m, 2h or 1h30m."""


class EarlyStoppingSpec(Spec):
    """Stop if `model.select` has not improved by more than `min_delta` in `patience` validations, counted from the last
    epoch of `model.unfreeze`."""

    patience: Count = 5
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class TrainerSpec(Spec):
    """Arguments of `lightning.Trainer`, under Lightning's names; precision `auto` is bf16-mixed if the device supports
    it, else 32-true; on a CPU, depthwise convolutions that are slow in bf16 compute in float32 then."""

    max_epochs: Count = 10
    budget: Duration | None = Field(
        None,
        description="wall time of the whole run, such as 8m or 2h, evaluation included; max_epochs is then chosen from "
        "a short measurement at the start, and adjusted while the run is faster or slower",
    )
    limit_train_batches: Count | None = Field(None, description="number of batches of an epoch; null: all")
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Literal["auto"] | Count | Annotated[tuple[int, ...], Field(min_length=1)] = "auto"
    num_nodes: Count = Field(1, description="number of machines, each with `devices`; see docs/nodes.md")
    strategy: Literal["auto", "ddp"] = "auto"
    sync_batchnorm: bool = Field(False, description="compute BatchNorm statistics over all processes; only on GPUs")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accumulate_grad_batches: Count = 1
    gradient_clip_val: Annotated[float, Field(gt=0)] | None = 10.0
    check_val_every_n_epoch: Count = 1
    early_stopping: EarlyStoppingSpec | None = None
    log_every_n_steps: Count = 10
    deterministic: bool = False
    benchmark: bool | None = None
    compile: bool = Field(False, description="compile the layers for training steps (torch.compile), mainly for GPUs")

    @property
    def budget_s(self) -> float | None:
        """Seconds of `budget`; None without one."""
        return None if self.budget is None else parse_duration(self.budget)

    @field_validator("strategy", mode="before")
    @classmethod
    def _parameters_are_whole(cls, strategy: object) -> object:
        if isinstance(strategy, str) and strategy.lower().startswith(SHARDED):
            raise ValueError(
                f"got {strategy!r}, which shards parameters: stages could not be frozen one by one, and a run could "
                "not be resumed exactly; choose auto or ddp, and save memory by unfreeze, accumulate_grad_batches and "
                "precision: bf16-mixed"
            )
        return strategy


PromoteIf = Literal["better", "surely_better", "never"]


class TrackingSpec(Spec):
    """MLflow: the experiment, and the name under which the best model is registered."""

    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "pyramidion"
    # MLflow allows no dots in this name, unlike other names in the document.
    register_as: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] | None = None
    promote_if: PromoteIf = Field(
        "better",
        description="when the registered version becomes the champion: if it is better by model.select on val; "
        "surely_better: only if also the 95 % interval of the difference excludes zero (paired bootstrap over the val "
        "images); never: only by hand",
    )
