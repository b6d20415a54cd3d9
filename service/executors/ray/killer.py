"""`python -m service.executors.ray.killer FOLDER`: kills the processes of an attempt on its node, as a Ray job."""

import sys
import time
from contextlib import suppress
from pathlib import Path

from pipelines.run_folder.attempt_files import ShimProcess
from service.executors.local import LocalExecutor
from service.executors.shim_contract import claim, remove_orders

SHIM_S = 5.0
"""Time that a shim has to kill its tree and to record the end."""
LOOK_S = 0.1


def main() -> int:
    """Kill the attempt of a folder; return 0 once none of its processes remains."""
    folder, executor = Path(sys.argv[1]), LocalExecutor(cpus=1, gpus=0)
    executor.stop(folder, kill=True)
    deadline = time.monotonic() + SHIM_S
    while executor.poll(folder).kind == "alive" and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    while not executor.sweep(folder):
        time.sleep(LOOK_S)
    with suppress(OSError):
        # A shim that starts later exits at once.
        claim(folder, ShimProcess())
        remove_orders(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
