"""The executor `ray`: each attempt is a job of a Ray cluster whose nodes share the folder of the service.

The queue stays in the database: an attempt is submitted only when it fits. On its node, `driver` runs it with the local
executor, so the files of an attempt are the same as everywhere. They decide: Ray's states only matter while exit.json
is missing.
"""

import importlib.util
import logging
import math
import shlex
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.child_process import child_environment, python_command
from service.executors.base import AttemptSpec, Engine, ExecutorUnavailable, Observation, RequirementsNotMet
from service.executors.ray.cluster import RayCluster, RequestRefused
from service.executors.ray.local_cluster import local_cluster
from service.executors.ray.order import OrderFile
from service.executors.ray.states import (
    END_SLACK_S,
    FOLDER_KEY,
    ISOLATED_S,
    KILL_SUFFIX,
    AttemptProgress,
    RayJob,
    RayState,
    observed,
    submission_id,
)
from service.executors.shim_contract import remove_orders
from service.resources import CPUS, GPUS, LARGEST_NODE, ResourceCounts, total
from service.settings import Settings

log = logging.getLogger(__name__)

KEEP_ENDED_S = 3600.0
"""Time that ended jobs stay in Ray's table, for its dashboard."""


class RayExecutor:
    """The `Executor` of a Ray cluster. All that must outlive it is in the folders of the attempts and in Ray.

    Args:
        cluster: the cluster.
        grace_s: the grace period of attempts.
    """

    is_bound_to_host = False

    def __init__(self, cluster: RayCluster, grace_s: float) -> None:
        self._cluster, self._grace_s = cluster, grace_s
        self._silent_since: dict[Path, float] = {}

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        if settings.ray_address is None:
            raise RequirementsNotMet(
                "the address of the cluster is missing; set --ray-address or PYRAMIDION_RAY_ADDRESS to its dashboard, "
                "http://HOST:8265, or start the whole service with `pyramidion serve`, which starts a Ray of its own"
            )

    @classmethod
    def engine(cls, settings: Settings) -> Engine | None:
        """Return a Ray of this machine alone, unless the settings name a cluster."""
        if settings.ray_address is not None:
            return None
        if importlib.util.find_spec("ray") is None:
            raise RequirementsNotMet("Ray is missing; pip install 'pyramidion[ray]', or name a cluster, --ray-address")
        return local_cluster(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        cls.check_requirements(settings)
        assert settings.ray_address is not None
        return cls(RayCluster(settings.ray_address), settings.cancel_grace_s)

    def capacity(self) -> ResourceCounts:
        """Return the sum over the living nodes, and the largest node; ExecutorUnavailable while none has a core."""
        nodes = [node.resources for node in self._cluster.nodes().values()]
        sums = total(nodes)
        if not sums.get(CPUS):
            raise ExecutorUnavailable(f"Ray at {self._cluster.address} has no node with cores yet")
        largest = {LARGEST_NODE + name: max(node[name] for node in nodes) for name in (CPUS, GPUS)}
        return {CPUS: sums[CPUS], GPUS: sums[GPUS], **largest}

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        """Return nothing: Ray chooses the devices."""
        return ()

    def start(self, spec: AttemptSpec) -> None:
        """Submit an attempt; Ray refuses a second job for it.

        Raises:
            OSError: its folder cannot be written, or Ray refuses the request.
            ExecutorUnavailable: the cluster does not answer; Ray may have the job, which `poll` shows.
        """
        folder = spec.folder.resolve()
        order, name = OrderFile(folder), submission_id(folder)
        folder.mkdir(parents=True, exist_ok=True)
        job = self._cluster.jobs().get(name)
        if AttemptProgress.of(folder).has_started or (job is not None and not job.has_ended):
            return
        if job is not None:
            log.warning("Ray has ended job %s before it ran (%s); submitting it again", name, job.message)
            self._cluster.delete(name)
        order.write(spec)
        if spec.start_until is not None and time.monotonic() > spec.start_until:
            order.withdraw()
            return
        try:
            self._cluster.submit(
                name,
                _entrypoint("driver", folder, {ATTEMPT_DIR_VARIABLE: str(folder)}),
                entrypoint_num_cpus=spec.resources[CPUS],
                entrypoint_num_gpus=spec.resources.get(GPUS, 0),
                metadata={FOLDER_KEY: str(folder)},
                # Ray kills a job that has not ended within this time after a request to stop.
                runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(spec.grace_s + 2 * END_SLACK_S))}},
            )
        except RequestRefused as error:
            order.withdraw()
            raise OSError(str(error)) from error

    def poll(self, folder: Path) -> Observation:
        """Return the state of an attempt; raises ExecutorUnavailable if only Ray knows it and does not answer."""
        folder = folder.resolve()
        if (ended := self._ended(folder)) is not None:
            return ended
        job = self._job(folder)
        # The driver may have ended in between.
        if (ended := self._ended(folder)) is not None:
            return ended
        silent_s = self._silent_s(folder, is_silent=job is None or job.has_ended)
        return observed(AttemptProgress.of(folder), job, silent_s, self._grace_s)

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to exit through Ray, or kill it by a job on its node, which takes some seconds to start."""
        folder = folder.resolve()
        OrderFile(folder).withdraw()
        job = self._job(folder)
        if kill:
            self._kill_on_node(folder, job)
        elif job is not None and not job.has_ended:
            self._cluster.stop(job.submission_id)

    def sweep(self, folder: Path) -> bool:
        """Kill all processes of an attempt by a job on its node; return True once they have exited.

        If its node is lost or unknown, it returns True after the time in which a node without contact ends by itself.
        """
        folder = folder.resolve()
        OrderFile(folder).withdraw()
        if self._ended(folder) is None and not self._is_swept(folder):
            return False
        self._silent_since.pop(folder, None)
        remove_orders(folder)
        return True

    def _is_swept(self, folder: Path) -> bool:
        job = self._job(folder)
        if not AttemptProgress.of(folder).has_started:
            # Nobody can start it any more.
            if job is not None and not job.has_ended:
                self._cluster.stop(job.submission_id)
            return True
        if job is not None and job.is_swept:
            return True
        is_on_node = self._is_on_living_node(job)
        silent_s = self._silent_s(folder, is_silent=not is_on_node or job is None or job.has_ended)
        if is_on_node:
            return self._kill_on_node(folder, job)
        return silent_s >= ISOLATED_S + self._grace_s

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        """Kill the attempts of no job, and remove old jobs of this service from Ray's table."""
        below = below.resolve()
        ours = [job for job in self._cluster.jobs().values() if job.folder is not None and below in job.folder.parents]
        wanted = {folder.resolve() for folder in known}
        for job in ours:
            assert job.folder is not None
            if job.has_ended:
                if (job.end_time_ms or 0) / 1000 < time.time() - KEEP_ENDED_S and job.folder not in wanted:
                    self._cluster.delete(job.submission_id)
            elif job.folder not in wanted and not job.submission_id.endswith(KILL_SUFFIX):
                self.sweep(job.folder)

    def _job(self, folder: Path) -> RayJob | None:
        return self._cluster.jobs().get(submission_id(folder))

    def _ended(self, folder: Path) -> Observation | None:
        """Return the state of an attempt that has written exit.json, as its last process."""
        ending = AttemptExit.read_if_valid(AttemptDir(folder).exit_json)
        return None if ending is None else Observation("exited", ending.code, ending.ran_out_of_memory)

    def _silent_s(self, folder: Path, *, is_silent: bool) -> float:
        """Return for how long Ray has not reported the attempt as running; 0 while it does."""
        if not is_silent:
            self._silent_since.pop(folder, None)
            return 0.0
        return time.monotonic() - self._silent_since.setdefault(folder, time.monotonic())

    def _is_on_living_node(self, job: RayJob | None) -> bool:
        return job is not None and job.node_id in self._cluster.nodes()

    def _kill_on_node(self, folder: Path, job: RayJob | None) -> bool:
        """Kill an attempt by a job that runs on its node; return True once that job has succeeded."""
        if job is None or not self._is_on_living_node(job):
            return False
        name = f"{job.submission_id}{KILL_SUFFIX}"
        killer = self._cluster.jobs().get(name)
        if killer is not None and killer.has_ended:
            if killer.state is RayState.SUCCEEDED:
                return True
            log.warning("the job %s has failed (%s); submitting it again", name, killer.message)
            self._cluster.delete(name)
            killer = None
        if killer is None:
            self._cluster.submit(
                name,
                _entrypoint("killer", folder),
                entrypoint_num_cpus=0,
                entrypoint_label_selector={"ray.io/node-id": job.node_id},
                metadata={FOLDER_KEY: str(folder)},
            )
        return False


def _entrypoint(module: str, folder: Path, more: Mapping[str, str] | None = None) -> str:
    """Return the shell command of a job that runs a module of this folder on an attempt.

    Args:
        module: its name.
        folder: the attempt's folder.
        more: further variables of its environment.
    """
    needed = child_environment(more or {})
    names = (*(more or {}), "PYTHONSAFEPATH", "PYTHONPATH")
    variables = [f"{name}={needed[name]}" for name in names if name in needed]
    command = python_command(f"service.executors.ray.{module}", str(folder))
    return "exec " + shlex.join(["env", *variables, *command])
