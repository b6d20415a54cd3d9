"""What routes are handed. All of it lies on `app.state`.

A router that needs something for as long as the server runs gives itself a `lifespan`: it starts after the
application's own, so that `app.state.store` and `app.state.settings` are there.
"""

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from service.api.dry_run import DryRuns
from service.api.metrics import Metrics
from service.executors.base import Capacity
from service.settings import Settings
from service.store.jobs import JobStore


def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _store(request: Request) -> JobStore:
    return cast(JobStore, request.app.state.store)


def _capacity(request: Request) -> Capacity:
    return cast(Capacity, request.app.state.capacity)


def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


def _dry_runs(request: Request) -> DryRuns:
    return cast(DryRuns, request.app.state.dry_runs)


JobId = Annotated[str, Path(description="of a job, as `id` tells it", max_length=32)]
SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[JobStore, Depends(_store)]
CapacityDep = Annotated[Capacity, Depends(_capacity)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
DryRunsDep = Annotated[DryRuns, Depends(_dry_runs)]
