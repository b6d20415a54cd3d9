"""`python -m service.executors.ray.group_driver FOLDER NUM_NODES CPUS GPUS [GPU_TYPE]`: an attempt on several nodes.

It is the entrypoint of the attempt's Ray job, on any node. It waits for a placement group with one bundle on each node,
takes the attempt's order, and starts the launchers by one worker of Ray per node. If it is killed, Ray ends the
workers, and each shim stops the attempt with a checkpoint.
"""

import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipelines.run_folder.layout import AttemptDir
from service.executors.ray.cluster import GPU_LABEL
from service.executors.ray.node_worker import NodeWorker
from service.executors.ray.order import OrderFile
from service.executors.ray.places import folder_of, write_places

POLL_S = 0.5
ANSWER_S = 10.0
"""Time that a worker has to answer."""
ALONE_S = 60.0
"""Time that the first node has to end by itself after another one; its launcher notices lost nodes earlier."""
OTHERS_S = 20.0
"""Time that the other nodes have to end by themselves after the first one."""
LOST = -1
"""The exit code of a worker that has ended, with its node or alone."""


def main() -> int:
    """Run the attempt; return as `driver.main`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    folder, num_nodes, cpus, gpus = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    file = OrderFile(folder)
    ray.init(log_to_driver=False)
    bundle: dict[str, float] = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    group = placement_group(
        [bundle] * num_nodes,
        strategy="STRICT_SPREAD",
        name=folder.parents[1].name,
        bundle_label_selector=[{GPU_LABEL: sys.argv[5]}] * num_nodes if sys.argv[5:] else None,
    )
    while not group.wait(timeout_seconds=1):
        if not file.is_waiting or signal.sigtimedwait({signal.SIGTERM}, 0) is not None:
            return 0
    actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(NodeWorker)
    workers: list[Any] = []
    for rank in range(num_nodes):
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
        workers.append(actor.options(scheduling_strategy=strategy).remote(str(folder), rank))
    write_places(folder, ray.get([worker.node_id.remote() for worker in workers]))
    if (spec := file.take(())) is None:
        print("the attempt was stopped before it ran, or runs already", flush=True)
        return 0
    # If this fails, the order remains for the sweep, so that the attempt counts as one that has started.
    address = ray.get(workers[0].address.remote())
    ray.get([worker.start.remote(num_nodes, address) for worker in workers])
    return Group(folder, file, workers, spec.grace_s).follow()


class Group:
    """The workers of an attempt that was started.

    If one of them is killed, the shim of its node stops the whole attempt, which takes up to the grace period.
    """

    def __init__(self, folder: Path, file: OrderFile, workers: Sequence[Any], grace_s: float) -> None:
        self._file, self._workers, self._grace_s = file, workers, grace_s
        self._runs = [AttemptDir(folder_of(folder, rank)).run_json for rank in range(len(workers))]
        self._codes: list[int | None] = [None] * len(workers)

    def follow(self) -> int:
        """Pass requests to stop on to the first node until all nodes have ended; return as `driver.main`."""
        alone_until = math.inf
        while self._codes[0] is None:
            if all(path.exists() for path in self._runs):
                self._file.forget()
            if signal.sigtimedwait({signal.SIGTERM}, POLL_S) is not None:
                self._ask(0, "stop")
            self._poll()
            if alone_until == math.inf and any(code is not None for code in self._codes[1:]):
                alone_until = time.monotonic() + ALONE_S + self._grace_s
            if time.monotonic() >= alone_until:
                self._ask(0, "sweep")
        return self._end_others(self._codes[0])

    def _end_others(self, code: int) -> int:
        """Wait for the other nodes, or kill what runs there; return the exit code of this process."""
        deadline = time.monotonic() + OTHERS_S + (self._grace_s if code == LOST else 0.0)
        while None in self._codes:
            time.sleep(POLL_S)
            self._poll()
            if time.monotonic() >= deadline:
                for rank in [rank for rank, found in enumerate(self._codes) if found is None]:
                    self._ask(rank, "sweep")
        if LOST in self._codes:
            return 1
        self._file.forget()
        return code

    def _poll(self) -> None:
        for rank in [rank for rank, code in enumerate(self._codes) if code is None]:
            self._codes[rank] = self._ask(rank, "poll")

    def _ask(self, rank: int, method: str) -> Any:
        """Return the answer of a worker; `LOST` if it has ended, and None if it does not answer."""
        try:
            return ray.get(getattr(self._workers[rank], method).remote(), timeout=ANSWER_S)
        except (ActorUnavailableError, GetTimeoutError):
            return None
        except RayError as error:
            print(f"the worker of node {rank} has ended: {error}", file=sys.stderr, flush=True)
            return LOST


if __name__ == "__main__":
    sys.exit(main())
