"""`trainer` and `tracking`: how long, on what, and who is told."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.spec.base import Count, Spec

SHARDED = ("fsdp", "deepspeed")


class EarlyStoppingSpec(Spec):
    """End where `model.select` has not become better by more than `min_delta` for `patience` validations, counted from
    the last epoch of `model.unfreeze` on."""

    patience: Count = 5
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class TrainerSpec(Spec):
    """The allowed arguments of `lightning.Trainer`, under Lightning's own names; `auto` precision is bf16-mixed where
    the device has it, else 32-true."""

    max_epochs: Count = 10
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Literal["auto"] | Count | Annotated[tuple[int, ...], Field(min_length=1)] = "auto"
    strategy: Literal["auto", "ddp"] = "auto"
    sync_batchnorm: bool = Field(False, description="BatchNorm over all processes; on GPUs alone")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accumulate_grad_batches: Count = 1
    gradient_clip_val: Annotated[float, Field(gt=0)] | None = 10.0
    check_val_every_n_epoch: Count = 1
    early_stopping: EarlyStoppingSpec | None = None
    log_every_n_steps: Count = 10
    deterministic: bool = False
    benchmark: bool | None = None

    @field_validator("strategy", mode="before")
    @classmethod
    def _parameters_are_whole(cls, strategy: object) -> object:
        if isinstance(strategy, str) and strategy.lower().startswith(SHARDED):
            raise ValueError(
                f"got {strategy!r}, which shards parameters: stages could not be frozen and unfrozen one by one, nor a "
                "run go on exactly; choose auto or ddp, and save memory by unfreeze, accumulate_grad_batches and "
                "precision: bf16-mixed"
            )
        return strategy


class TrackingSpec(Spec):
    """MLflow: the experiment, and the name that the best model is registered under."""

    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "pyramidion"
    # A name that MLflow takes: no dots, unlike the other names of the document.
    register_as: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] | None = None
