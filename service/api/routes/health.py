"""Liveness, readiness, metrics and capabilities of the service."""

import asyncio
import logging
import os
from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.access import needs
from service.api.deps import CapacityDep, JobsDep, MetricsDep, PoolsDep, SettingsDep, StoreDep
from service.api.query_parameters import reject_ignored_parameters
from service.api.thread_pools import NoAnswer, ThreadPool, Work
from service.disk_space import require_free_space
from service.jobs.kinds.fit import FitKind
from service.jobs.kinds.registry import JOB_KINDS
from service.jobs.supervisor_watch import SupervisorWatch
from service.resources import CPUS, GPUS, NODES, available, gpu_types, on_largest_node
from service.rest.schemas import Alive, Capabilities, Check, Readiness
from service.scopes import Scope
from service.settings import Settings
from service.store.jobs import JobStore
from service.version import version

logger = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def get_liveness() -> Alive:
    """Report that the API process answers. This waits for nothing: no thread, database, disk or lock."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready, with the reasons"}})
async def get_readiness(
    store: StoreDep, jobs: JobsDep, settings: SettingsDep, pools: PoolsDep, response: Response
) -> Readiness:
    """Report whether jobs can be accepted and run, with the reasons if not."""
    probes = pools[Work.PROBES]
    checks = await asyncio.gather(
        _check(probes, "database", lambda: _write_database(store)),
        _check(probes, "root", lambda: _write_root(settings)),
        _check(probes, "disk", lambda: _measure_disk(settings)),
        _check(probes, "supervisor", lambda: _find_supervisor(jobs.supervision)),
    )
    is_ready = all(check.is_ok for check in checks)
    response.status_code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(is_ready=is_ready, checks=list(checks))


@router.get(
    "/metrics",
    dependencies=[needs(Scope.METRICS_READ)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def get_metrics(metrics: MetricsDep, pools: PoolsDep) -> Response:
    """Return metrics in the text format of Prometheus; without those of the database while it does not answer."""
    try:
        stored = await pools[Work.PROBES].run(metrics.stored_text)
    except Exception as error:  # whatever is wrong with the database, the other metrics are needed
        logger.warning("the metrics of the database are missing: %s", error)
        stored = b""
    metrics.database_up.set(bool(stored))
    return Response(metrics.text() + stored, media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/capabilities", dependencies=[needs(), Depends(reject_ignored_parameters)])
async def get_capabilities(settings: SettingsDep, capacity: CapacityDep) -> Capabilities:
    """Return the version, resources and limits of this server."""
    default = FitKind().default_resources(on_largest_node(capacity))
    return Capabilities(
        version=version(),
        cpus=capacity[CPUS],
        gpus=capacity.get(GPUS, 0),
        gpu_types=gpu_types(capacity),
        nodes=available(capacity, NODES),
        default_cpus=default[CPUS],
        default_gpus=default[GPUS],
        job_kinds=list(JOB_KINDS),
        max_attempts=settings.max_attempts,
        max_json_bytes=settings.max_json_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_images=settings.max_images,
        max_images_bytes=settings.max_images_bytes,
    )


async def _check(probes: ThreadPool, name: str, find_detail: Callable[[], str]) -> Check:
    """Return a check with the detail that `find_detail` returns, or a failed one with the error that it raises."""
    try:
        return Check(name=name, is_ok=True, detail=await probes.run(find_detail))
    except NoAnswer as error:
        return Check(name=name, is_ok=False, detail=error.detail)
    except Exception as error:  # any error of the database or the disk is a failed check
        return Check(name=name, is_ok=False, detail=str(error).splitlines()[0] if str(error) else repr(error))


def _write_database(store: JobStore) -> str:
    store.check_writable()
    return "is writable"


def _write_root(settings: Settings) -> str:
    if not os.access(settings.jobs_dir, os.W_OK | os.X_OK):
        raise OSError("the folder of the jobs is not writable; check its owner and mode")
    return "is writable"


def _measure_disk(settings: Settings) -> str:
    return f"{require_free_space(settings) >> 20} MiB are free"


def _find_supervisor(supervision: SupervisorWatch) -> str:
    lease = supervision.active()
    if lease is None:
        raise OSError("no supervisor is running, so that jobs are accepted but wait; restart `pyramidion serve`")
    return f"runs as process {lease.pid} on host {lease.host}"
