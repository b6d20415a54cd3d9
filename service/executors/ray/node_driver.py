"""`python -m service.executors.ray.node_driver FOLDER RANK NUM_NODES ADDRESS`: runs an attempt on one of its nodes.

A worker of Ray on this node starts it, and its end has the effect of SIGTERM. As the driver of an attempt on one node
(`driver`), it starts the shim, which runs the launcher of this node (`pipelines.node_launcher`), and ends after it.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from service.child_process import die_with_parent
from service.executors.local import LocalExecutor
from service.executors.nodes import node_command, node_environment
from service.executors.process_tree import find_process
from service.executors.ray.driver import follow, start, visible_devices
from service.executors.ray.order import OrderFile
from service.executors.ray.places import folder_of


def main() -> int:
    """Run the launcher; return as `driver.main`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    die_with_parent()
    attempt, rank, num_nodes, address = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    folder = folder_of(attempt, rank)
    try:
        order = OrderFile(attempt).read_taken(visible_devices())
    except OSError as error:
        print(f"the order of the attempt cannot be read: {error}; check the shared disk", file=sys.stderr, flush=True)
        return 1
    environment = {**order.environment, **node_environment(rank, num_nodes, address)}
    spec = replace(order, folder=folder, command=node_command(order.command), environment=environment)
    driver = find_process(os.getpid())
    assert driver is not None
    executor = LocalExecutor(cpus=1, gpus=0, driver=driver)
    return follow(executor, None, folder) if start(executor, spec) else 1


if __name__ == "__main__":
    sys.exit(main())
