"""`python -m service.executors.ray.node_driver FOLDER RANK NUM_NODES ADDRESS`: runs an attempt on one of its nodes.

A worker of Ray on this node starts it, and its end has the effect of SIGTERM. As the driver of an attempt on one node
(`driver`), it starts the shim, which runs the launcher of this node (`pipelines.node_launcher`), and ends after it.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path

from service.child_process import die_with_parent
from service.executors.nodes import node_command, node_environment
from service.executors.ray.driver import run, visible_devices
from service.executors.ray.order import OrderFile
from service.executors.ray.places import folder_of


def main() -> int:
    """Run the launcher; return as `driver.main`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    die_with_parent()
    attempt, rank, num_nodes, address = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    try:
        order = OrderFile(attempt).read_taken(visible_devices())
    except OSError as error:
        print(f"the order of the attempt cannot be read: {error}; check the shared disk", file=sys.stderr, flush=True)
        return 1
    environment = {**order.environment, **node_environment(rank, num_nodes, address)}
    folder, command = folder_of(attempt, rank), node_command(order.command)
    return run(replace(order, folder=folder, command=command, environment=environment), None)


if __name__ == "__main__":
    sys.exit(main())
