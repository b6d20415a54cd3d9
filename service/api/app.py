"""The FastAPI application that serves the REST API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from service.addresses import TrustedProxies
from service.api.authentication import Authenticate, Authenticator
from service.api.comparisons import Comparisons
from service.api.connections import Connections
from service.api.dry_run import DryRuns
from service.api.hosts import KnownHostsOnly
from service.api.key_ring import KeyRing
from service.api.metrics import ConnectionCollector, JobCollector, Metrics, PoolCollector
from service.api.openapi import describe
from service.api.query_parameters import reject_ignored_parameters
from service.api.request_log import RequestLog
from service.api.routes import (
    analyses,
    audit,
    batch_predictions,
    catalog,
    comparison,
    datasets,
    docs,
    events,
    explanations,
    exports,
    health,
    job_details,
    jobs,
    keys,
    model_versions,
    models,
    neighbors,
    predictions,
    result_images,
    results,
    sweeps,
    system,
    worst,
)
from service.api.thread_pools import ThreadPools, Work
from service.api.url_characters import NoNulCharacters
from service.executors.registry import capacity_of_service
from service.jobs.use_cases import Jobs
from service.keys.use_cases import Keys
from service.rest.problems import add_handlers
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.audit import AuditLog
from service.store.database import open_database_later
from service.store.datasets import DatasetStore
from service.store.engines import DatabaseLimits
from service.store.gauges import read_gauges
from service.store.jobs import JobStore
from service.store.sweeps import SweepStore
from service.sweeps.use_cases import Sweeps
from service.version import version
from service.web.router import router as web_router


def create_app(settings: Settings) -> FastAPI:
    """Return the application; the database is open during its lifespan."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings.jobs_dir.mkdir(parents=True, exist_ok=True)
        # In parallel: a driver may take a second to list its GPUs.
        engine, capacity = await asyncio.gather(
            asyncio.to_thread(open_database_later, settings.url_of_database, DatabaseLimits.of_requests(settings)),
            asyncio.to_thread(capacity_of_service, settings),
        )
        app.state.engine = engine
        app.state.store = JobStore(engine)
        app.state.pools = pools = ThreadPools(settings)
        app.state.keys = Keys(key_store := KeyStore(engine))
        ring = KeyRing(key_store, pools[Work.KEYS], settings.key_cache_s)
        app.state.audit = AuditLog(engine)
        app.state.authenticator = Authenticator(ring, settings)
        app.state.dry_runs = DryRuns(settings, pools[Work.CHECKS])
        app.state.comparisons = Comparisons(settings, pools[Work.COMPARISONS])
        app.state.capacity = capacity
        app.state.jobs = Jobs(app.state.store, settings, capacity, DatasetStore(engine))
        app.state.sweeps = Sweeps(SweepStore(engine), app.state.jobs)
        collector = JobCollector(app.state.store, partial(read_gauges, engine), capacity)
        metrics.stored.register(collector)
        in_pools = PoolCollector(pools)
        metrics.registry.register(in_pools)
        try:
            yield
        finally:
            metrics.stored.unregister(collector)
            metrics.registry.unregister(in_pools)
            pools.close()
            engine.dispose()

    app = FastAPI(
        title="Pyramidion",
        version=version(),
        description="Fine-tunes one backbone for several visual tasks: submit, watch, read results, predict.",
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        # The web page has `/docs`; the framework's page loads scripts of others.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.connections = connections = Connections(settings)
    metrics.registry.register(ConnectionCollector(connections))
    add_handlers(app)
    checks = [Depends(reject_ignored_parameters)]
    # Routes are tried in this order; predictions are the most frequent requests, and those of which milliseconds count.
    for routes in (
        models,
        jobs,
        job_details,
        events,
        results,
        analyses,
        worst,
        result_images,
        neighbors,
        comparison,
        sweeps,
        predictions,
        explanations,
        model_versions,
        exports,
        batch_predictions,
        datasets,
        catalog,
        audit,
        keys,
        system,
    ):
        app.include_router(routes.router, dependencies=checks)
    # Probes and scrapers may add parameters of their own.
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(web_router)
    app.add_middleware(NoNulCharacters)
    app.add_middleware(Authenticate, settings=settings)
    app.add_middleware(KnownHostsOnly, settings=settings)
    app.add_middleware(RequestLog, metrics=metrics, proxies=TrustedProxies(settings.trusted_proxies))
    describe(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
