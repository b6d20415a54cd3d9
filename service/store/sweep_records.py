"""Sweeps and their trials as values. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.states import SweepStatus, TrialState


@dataclass(frozen=True)
class NewSweep:
    """A sweep that was checked and can be started; priority, resources and time limit are those of its trials."""

    name: str
    config: dict[str, Any]
    priority: int
    cpus: int
    gpus: int
    timeout_s: float | None = None
    dataset_id: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A row of `sweeps` without its document; see `tables.sweeps`."""

    number: int
    id: str
    name: str
    status: SweepStatus
    priority: int
    cpus: int
    gpus: int
    timeout_s: float | None
    dataset_id: str | None
    created_at: float
    finished_at: float | None
    cancel_requested_at: float | None
    message: str | None
    is_failing: bool
    mlflow_run_id: str | None
    mlflow_status: str | None
    tenant: str
    key_id: str | None

    @property
    def is_stopping(self) -> bool:
        """True once no further trial may start."""
        return self.cancel_requested_at is not None or self.is_failing


class Report(NamedTuple):
    """A value of the metric after an epoch, which is counted from 0; `seq` is that of the event."""

    epoch: int
    value: float | None
    seq: int


@dataclass(frozen=True)
class SweepTrial:
    """A row of `sweep_trials`."""

    sweep_id: str
    number: int
    job_id: str | None
    state: TrialState
    params: Mapping[str, Any]
    reports: tuple[Report, ...]
    value: float | None
    limited: Mapping[str, float]
    message: str | None
    created_at: float
    ended_at: float | None
