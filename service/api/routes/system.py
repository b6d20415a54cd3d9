"""The state of the server in numbers, for its operators."""

import platform
import shutil
from functools import cache
from importlib import metadata

from fastapi import APIRouter

from service.api.access import needs
from service.api.deps import CapacityDep, SettingsDep, StoreDep
from service.api.thread_pools import PooledRoute
from service.api.views import moment_or_none
from service.resources import CPUS, GPUS
from service.rest.system_schemas import DiskUse, ResourceUse, SystemView
from service.scopes import Scope
from service.settings import Settings
from service.version import version

router = APIRouter(prefix="/v1/system", tags=["operations"], route_class=PooledRoute)

PACKAGES = ("torch", "torchvision", "timm", "lightning", "mlflow", "numpy", "pillow")


@router.get("", dependencies=[needs(Scope.METRICS_READ)])
def get_system(store: StoreDep, settings: SettingsDep, capacity: CapacityDep) -> SystemView:
    """Return the resources in use, the length of the queue, the free space, and versions."""
    cpus, gpus = store.slots_in_use()
    return SystemView(
        version=version(),
        python=platform.python_version(),
        packages=_packages(),
        executor=settings.executor,
        resources=[
            ResourceUse(name=name, capacity=capacity.get(name, 0), used=used)
            for name, used in ((CPUS, cpus), (GPUS, gpus))
        ],
        disk=_disk(settings),
        jobs=store.counts(),
        queued_since=moment_or_none(store.oldest_queued_at()),
    )


@cache
def _packages() -> dict[str, str]:
    return {distribution: metadata.version(distribution) for distribution in PACKAGES}


def _disk(settings: Settings) -> DiskUse | None:
    try:
        found = shutil.disk_usage(settings.root)
    except OSError:  # readiness says what is wrong
        return None
    return DiskUse(total_bytes=found.total, free_bytes=found.free, min_free_bytes=settings.min_free_bytes)
