"""The dependencies of routes. All of them are stored in `app.state`.

They are coroutines: FastAPI would run plain functions in threads that all requests share, so that one kind of blocking
work could stop all others. A router that needs an object for the lifetime of the server declares its own `lifespan`,
which starts after the application's, so `app.state.store`, `app.state.settings` and `app.state.pools` exist.
"""

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from service.api.comparisons import Comparisons
from service.api.dry_run import DryRuns
from service.api.metrics import Metrics
from service.api.thread_pools import ThreadPools
from service.jobs.use_cases import Jobs
from service.principal import Principal
from service.resources import ResourceCounts
from service.settings import Settings
from service.store.jobs import JobStore


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


async def _store(request: Request) -> JobStore:
    return cast(JobStore, request.app.state.store)


async def _jobs(request: Request) -> Jobs:
    return cast(Jobs, request.app.state.jobs)


async def _principal(request: Request) -> Principal:
    return cast(Principal, request.state.principal)


async def _capacity(request: Request) -> ResourceCounts:
    return cast(ResourceCounts, request.app.state.capacity)


async def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


async def _dry_runs(request: Request) -> DryRuns:
    return cast(DryRuns, request.app.state.dry_runs)


async def _comparisons(request: Request) -> Comparisons:
    return cast(Comparisons, request.app.state.comparisons)


async def _pools(request: Request) -> ThreadPools:
    return cast(ThreadPools, request.app.state.pools)


JobId = Annotated[str, Path(description="id of a job", max_length=32)]
SettingsDep = Annotated[Settings, Depends(_settings)]
StoreDep = Annotated[JobStore, Depends(_store)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
PrincipalDep = Annotated[Principal, Depends(_principal)]
CapacityDep = Annotated[ResourceCounts, Depends(_capacity)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
DryRunsDep = Annotated[DryRuns, Depends(_dry_runs)]
ComparisonsDep = Annotated[Comparisons, Depends(_comparisons)]
PoolsDep = Annotated[ThreadPools, Depends(_pools)]
