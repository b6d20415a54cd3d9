"""A real Ray for tests, started by the service's own code, in a network namespace with the loopback interface alone."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.child_process import child_environment
from service.executors.base import ExecutorUnavailable
from service.executors.ray import cluster
from service.executors.ray.cluster import AUTH_MODE, TOKEN, RayCluster
from service.executors.ray.local_cluster import local_cluster
from service.settings import Settings
from tests.network_namespace import NetworkNamespace
from tests.service.waiting import TIMEOUT_S, wait_until

CPUS = 2


class RayForTests:
    """A Ray of this machine; its processes are in its namespace, and a test enters that to reach them.

    Args:
        root: folder of its log.
    """

    def __init__(self, root: Path) -> None:
        self.network = NetworkNamespace()
        with self.network.entered():
            self.engine = local_cluster(Settings(root=root, executor="ray", cpus=CPUS, gpus=0))
        self._settings = Settings(root=root, executor="ray", cpus=CPUS, gpus=0, **self.engine.settings)

    @contextmanager
    def running(self) -> Iterator["RayForTests"]:
        environment = {**os.environ, **self._settings.environment(), **self.engine.environment}
        with self.network.entered():
            process = subprocess.Popen(self.engine.command, env=child_environment(environment))
        try:
            with self.used() as settings:
                found = RayCluster(settings["ray_address"])
                wait_until(lambda: _has_nodes(found), "a node of Ray", pause_s=0.5)
            yield self
        finally:
            process.terminate()
            process.wait()
            self.network.close()

    @contextmanager
    def used(self) -> Iterator[dict[str, Any]]:
        """Enter the namespace with the token; yield the settings by which the executor reaches Ray."""
        with self.network.entered(), pytest.MonkeyPatch.context() as patch:
            # No test depends on how soon Ray answers.
            patch.setattr(cluster, "TIMEOUT_S", TIMEOUT_S)
            for name in (AUTH_MODE, TOKEN):
                patch.setenv(name, self.engine.environment[name])
            yield dict(self.engine.settings)


def _has_nodes(found: RayCluster) -> bool:
    try:
        return bool(found.nodes())
    except ExecutorUnavailable:
        return False


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayForTests]:
    """A Ray of two cores in a network of its own, as the service starts one."""
    with RayForTests(tmp_path_factory.mktemp("ray")).running() as ray:
        yield ray
