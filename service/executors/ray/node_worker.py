"""The worker of Ray on one node of an attempt. Its methods return at once; the driver of several nodes calls them."""

import os
import socket
import subprocess
from pathlib import Path

from pipelines.nodes.interfaces import address_of
from pipelines.nodes.settings import INTERFACE_VARIABLE
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE
from service.child_process import child_environment, python_command
from service.executors.local import LocalExecutor
from service.executors.ray.order import OrderFile
from service.executors.ray.places import folder_of


class NodeWorker:
    """An actor that holds the resources of an attempt on one node, and starts `node_driver` there.

    Args:
        attempt: the attempt's folder.
        rank: number of the node.
    """

    def __init__(self, attempt: str, rank: int) -> None:
        self._attempt, self._rank = Path(attempt), rank
        self._folder = folder_of(self._attempt, rank)
        self._driver: subprocess.Popen[bytes] | None = None

    def node_id(self) -> str:
        """Return Ray's id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def address(self) -> str:
        """Return `host:port` of this node, with a port that nobody uses at the moment; the order must be taken."""
        import ray

        interface = OrderFile(self._attempt).read_taken(()).environment.get(INTERFACE_VARIABLE)
        own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        host = (interface and address_of(interface)) or own
        with socket.create_server((host, 0)) as unused:
            return f"{host}:{unused.getsockname()[1]}"

    def start(self, num_nodes: int, address: str) -> None:
        """Start the launcher of this node below its own driver and shim."""
        words = (str(self._attempt), str(self._rank), str(num_nodes), address)
        self._driver = subprocess.Popen(
            python_command("service.executors.ray.node_driver", *words),
            stdin=subprocess.DEVNULL,
            env=child_environment({**os.environ, ATTEMPT_DIR_VARIABLE: str(self._folder)}),
            cwd="/",
        )

    def poll(self) -> int | None:
        """Return the exit code of the driver of this node, see `driver.main`; None while it runs."""
        assert self._driver is not None
        return self._driver.poll()

    def stop(self) -> None:
        """Ask the attempt to exit, with a checkpoint."""
        if self._driver is not None:
            self._driver.terminate()

    def sweep(self) -> bool:
        """Kill what runs of the attempt on this node; return True once nothing does."""
        return LocalExecutor(cpus=1, gpus=0).sweep(self._folder)
