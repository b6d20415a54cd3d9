"""The executor `ray`: each attempt is a job of a Ray cluster.

The queue stays in the database: an attempt is submitted only when it fits. On its node, `driver` runs it with the local
executor, so the files of an attempt are the same as everywhere. They decide: Ray's states only matter while exit.json
is missing. The nodes share them with the service, or `service.run_sync` keeps those beside the service up to date.
"""

import importlib.util
import logging
import math
import shlex
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.child_process import child_environment, python_command
from service.executors.base import AttemptSpec, Engine, ExecutorUnavailable, Observation, RequirementsNotMet
from service.executors.ray.cluster import GPU_LABEL, RayCluster, RequestRefused
from service.executors.ray.local_cluster import local_cluster
from service.executors.ray.order import OrderFile
from service.executors.ray.places import Place, others_have_ended, read_places
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
from service.resources import CPUS, GPU_TYPE, GPUS, LARGEST_NODE, NODES, ResourceCounts, total
from service.settings import Settings

log = logging.getLogger(__name__)

DRIVER, GROUP_DRIVER, KILLER = (f"{__package__}.{name}" for name in ("driver", "group_driver", "killer"))
NODE_LABEL = "ray.io/node-id"
MAX_CHOICES = 20
"""Number of nodes among which Ray chooses one for the driver of an attempt on several nodes."""
KEEP_ENDED_S = 3600.0
"""Time that ended jobs stay in Ray's table, for its dashboard."""


class RayExecutor:
    """The `Executor` of a Ray cluster. All that must outlive it is in the folders of the attempts and in Ray.

    Args:
        cluster: the cluster.
        grace_s: the grace period of attempts.
    """

    is_bound_to_host = False
    fetches_orders = True

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
        found = list(self._cluster.nodes().values())
        nodes = [node.resources for node in found]
        sums = total(nodes)
        if not sums.get(CPUS):
            raise ExecutorUnavailable(f"Ray at {self._cluster.address} has no node with cores yet")
        largest = {LARGEST_NODE + name: max(node[name] for node in nodes) for name in (CPUS, GPUS)}
        types = total({GPU_TYPE + node.gpu_type: node.resources[GPUS]} for node in found if node.gpu_type)
        return {CPUS: sums[CPUS], GPUS: sums[GPUS], NODES: len(self._ids_of_nodes()), **largest, **types}

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
            self._submit(name, folder, spec)
        except RequestRefused as error:
            order.withdraw()
            raise OSError(str(error)) from error

    def _submit(self, name: str, folder: Path, spec: AttemptSpec) -> None:
        """Submit the job of an attempt; raises as `RayCluster.submit`."""
        mark = {ATTEMPT_DIR_VARIABLE: str(folder)}
        # Ray kills a job that has not ended within this time after a request to stop.
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(spec.grace_s + 2 * END_SLACK_S))}
        each = spec.resources_per_node
        cpus, gpus = each[CPUS], each.get(GPUS, 0)
        if spec.num_nodes == 1:
            more: dict[str, Any] = {"entrypoint_num_cpus": cpus, "entrypoint_num_gpus": gpus}
            if spec.gpu_type is not None:
                more["entrypoint_label_selector"] = {GPU_LABEL: spec.gpu_type}
            module, *words = spec.fetching_driver or (DRIVER,)
            entrypoint = _entrypoint(module, folder, mark, *words)
        else:
            # The workers get the resources, and import this package. Without a selector, Ray chooses the head.
            more = {
                "entrypoint_num_cpus": 0,
                "entrypoint_label_selector": {NODE_LABEL: f"in({','.join(self._ids_of_nodes()[:MAX_CHOICES])})"},
            }
            variables |= _python_variables()
            words = [str(spec.num_nodes), str(cpus), str(gpus), *([spec.gpu_type] if spec.gpu_type else [])]
            entrypoint = _entrypoint(GROUP_DRIVER, folder, mark, *words)
        metadata = {FOLDER_KEY: str(folder)}
        self._cluster.submit(name, entrypoint, metadata=metadata, runtime_env={"env_vars": variables}, **more)

    def poll(self, folder: Path) -> Observation:
        """Return the state of an attempt; raises ExecutorUnavailable if only Ray knows it and does not answer."""
        folder = folder.resolve()
        if (ended := self._ended(folder)) is not None and others_have_ended(folder):
            return ended
        job = self._job(folder)
        # The driver may have ended in between.
        if (ended := self._ended(folder)) is not None:
            # It waits for the other nodes.
            is_ending = job is not None and not job.has_ended and not others_have_ended(folder)
            return Observation("alive") if is_ending else ended
        silent_s = self._silent_s(folder, is_silent=job is None or job.has_ended)
        return observed(AttemptProgress.of(folder), job, silent_s, self._grace_s)

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to exit through Ray, or kill it by a job on its node, which takes some seconds to start."""
        folder = folder.resolve()
        OrderFile(folder).withdraw()
        job = self._job(folder)
        if kill:
            for place in self._places(folder, job):
                self._kill_on(place, job)
        elif job is not None and not job.has_ended:
            self._cluster.stop(job.submission_id)

    def sweep(self, folder: Path) -> bool:
        """Kill all processes of an attempt by a job on each of its nodes; return True once they have exited.

        If a node is lost or unknown, it returns True after the time in which a node without contact ends by itself.
        """
        folder = folder.resolve()
        OrderFile(folder).withdraw()
        has_ended = self._ended(folder) is not None and others_have_ended(folder)
        if not has_ended and not self._is_swept(folder):
            return False
        for one in [one for one in self._silent_since if one == folder or folder in one.parents]:
            del self._silent_since[one]
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
        swept = [self._is_swept_on(place, job) for place in self._places(folder, job)]
        return all(swept)

    def _is_swept_on(self, place: Place, job: RayJob | None) -> bool:
        """Kill what remains of an attempt on one node; return True once nothing does."""
        if place.has_ended:
            return True
        is_on_node = place.node_id in self._cluster.nodes()
        silent_s = self._silent_s(place.folder, is_silent=not is_on_node or job is None or job.has_ended)
        if is_on_node:
            return self._kill_on(place, job)
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

    def _ids_of_nodes(self) -> list[str]:
        """Return the living nodes that have cores."""
        return [node.node_id for node in self._cluster.nodes().values() if node.resources[CPUS]]

    def _places(self, folder: Path, job: RayJob | None) -> list[Place]:
        """Return the nodes of an attempt that has started; an attempt on one node runs beside its driver."""
        of_driver = (job and job.node_id) or ""
        return read_places(folder) or [Place(0, of_driver, folder)]

    def _kill_on(self, place: Place, job: RayJob | None) -> bool:
        """Kill an attempt by a job that runs on one of its nodes; return True once that job has succeeded."""
        if job is None or place.node_id not in self._cluster.nodes():
            return False
        name = f"{job.submission_id}{f'-{place.rank}' if place.rank else ''}{KILL_SUFFIX}"
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
                _entrypoint(KILLER, place.folder),
                entrypoint_num_cpus=0,
                entrypoint_label_selector={NODE_LABEL: place.node_id},
                metadata={FOLDER_KEY: str(job.folder)},
            )
        return False


def _python_variables() -> dict[str, str]:
    """Return the variables by which Python imports this package on a node."""
    needed = child_environment({})
    return {name: needed[name] for name in ("PYTHONSAFEPATH", "PYTHONPATH") if name in needed}


def _entrypoint(module: str, folder: Path, more: Mapping[str, str] | None = None, *words: str) -> str:
    """Return the shell command of a job that runs a module on an attempt.

    Args:
        module: its name.
        folder: the attempt's folder.
        more: further variables of its environment.
        words: further arguments.
    """
    variables = [f"{name}={text}" for name, text in {**(more or {}), **_python_variables()}.items()]
    command = python_command(module, str(folder), *words)
    return "exec " + shlex.join(["env", *variables, *command])
