"""Whether the service works, what it may use, and what it measures."""

import os
import shutil
from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.deps import CapacityDep, MetricsDep, SettingsDep, StoreDep
from service.jobs.submission import default_resources
from service.jobs.supervision import supervisor_pid
from service.resources import CPUS, GPUS
from service.rest.schemas import Alive, Capabilities, Check, Readiness
from service.settings import Settings
from service.store.jobs import JobStore
from service.version import version

router = APIRouter(tags=["operations"])

MIN_FREE_BYTES = 256 << 20
"""Below this a checkpoint may not be written any more."""


@router.get("/livez")
def get_liveness() -> Alive:
    """Say that the process answers."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready, and why"}})
def get_readiness(store: StoreDep, settings: SettingsDep, response: Response) -> Readiness:
    """Say whether jobs can be taken and run, and what is in the way."""
    checks = [
        _check("database", lambda: _write_database(store)),
        _check("root", lambda: _write_root(settings)),
        _check("disk", lambda: _measure_disk(settings)),
        _check("supervisor", lambda: _find_supervisor(settings)),
    ]
    is_ready = all(check.is_ok for check in checks)
    response.status_code = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(is_ready=is_ready, checks=checks)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(metrics: MetricsDep) -> Response:
    """Return what is measured, in Prometheus' text format."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/capabilities")
def get_capabilities(settings: SettingsDep, capacity: CapacityDep) -> Capabilities:
    """Say what this server is and what it may use."""
    default = default_resources(capacity)
    return Capabilities(
        version=version(),
        cpus=capacity[CPUS],
        gpus=capacity.get(GPUS, 0),
        default_cpus=default[CPUS],
        default_gpus=default[GPUS],
        max_attempts=settings.max_attempts,
        max_json_bytes=settings.max_json_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
    )


def _check(name: str, look: Callable[[], str]) -> Check:
    """Return what `look` says; what it raises is what is wrong."""
    try:
        return Check(name=name, is_ok=True, detail=look())
    except Exception as error:  # whatever is wrong with a database or a disk is what is asked for
        return Check(name=name, is_ok=False, detail=str(error).splitlines()[0] if str(error) else repr(error))


def _write_database(store: JobStore) -> str:
    store.check_writable()
    return "can be written"


def _write_root(settings: Settings) -> str:
    if not os.access(settings.jobs_dir, os.W_OK | os.X_OK):
        raise OSError("the folder of the jobs cannot be written; look at its owner and mode")
    return "can be written"


def _measure_disk(settings: Settings) -> str:
    free = shutil.disk_usage(settings.root).free
    told = f"{free >> 20} MiB are free"
    if free < MIN_FREE_BYTES:
        raise OSError(f"{told}, at least {MIN_FREE_BYTES >> 20} are wanted; delete jobs, or free the disk")
    return told


def _find_supervisor(settings: Settings) -> str:
    pid = supervisor_pid(settings.root)
    if pid is None:
        raise OSError("no supervisor runs: jobs are taken and wait; restart `pyramidion serve`")
    return f"runs as process {pid}"
