"""A real Ray for tests, started by the service's own code, in a network namespace with the loopback interface alone."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.child_process import child_environment, python_command
from service.executors.base import ExecutorUnavailable
from service.executors.process_tree import kill
from service.executors.ray import cluster
from service.executors.ray.cluster import AUTH_MODE, TOKEN, RayCluster
from service.executors.ray.local_cluster import LOG, local_cluster
from service.settings import Settings
from tests.network_namespace import NetworkNamespace
from tests.service.waiting import TIMEOUT_S, wait_until

CPUS = 2
OWN_DISK = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'
"""A shell script that runs a command, in a mount namespace of its own, with an empty disk in place of a folder."""
PORTS_OF_NODE = ("--dashboard-agent-listen-port=30001", "--metrics-export-port=30002")
"""Ports that nobody else uses in the namespace, outside of those of Ray's workers (10002 to 19999)."""


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
        """Start Ray, and again if it gives up: it does so if its node is not there within 30 s."""
        processes = [self._start()]

        def is_there() -> bool:
            if processes[-1].poll() is not None:
                processes.append(self._start())
            return _has_nodes(found)

        try:
            with self.used() as settings:
                found = RayCluster(settings["ray_address"])
                wait_until(is_there, "a node of Ray", timeout_s=5 * TIMEOUT_S, pause_s=0.5)
            yield self
        finally:
            processes[-1].terminate()
            processes[-1].wait()
            self.network.close()

    @contextmanager
    def with_another_node(self, cpus: int, own: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """Add a node; yield its `ray start`, whose session contains the raylet and all others of its processes.

        Args:
            cpus: its cores.
            own: a folder in whose place the node has a disk of its own, which is empty.
        """
        log = (self._settings.root / LOG).read_text()
        [address] = set(re.findall(r"--address='([0-9.:]+)'", log))
        command = python_command(
            "ray.scripts.scripts", "start", f"--address={address}", "--block", f"--num-cpus={cpus}"
        )
        options = ["--node-ip-address=127.0.0.1", "--disable-usage-stats", *PORTS_OF_NODE]
        disk = () if own is None else ("unshare", "--mount", "sh", "-c", OWN_DISK, "sh", str(own))
        environment = child_environment({**os.environ, **self.engine.environment})
        with self.network.entered():
            node = subprocess.Popen([*disk, *command, *options], env=environment, start_new_session=True)
        try:
            yield node
        finally:
            while kill(lambda table: [process for process in table.values() if process.session == node.pid]):
                node.poll()
            node.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, **self._settings.environment(), **self.engine.environment}
        with self.network.entered():
            return subprocess.Popen(self.engine.command, env=child_environment(environment))

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
