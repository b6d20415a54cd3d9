"""`SlurmExecutor`: one batch job per attempt, whose script is the shim."""

import logging
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from pipelines.base.errors import ExitCode
from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import AttemptDir
from service.child_process import child_environment
from service.executors.base import AttemptSpec, ExecutorUnavailable, Observation, RequirementsNotMet
from service.executors.shim_contract import INHERITED, claim, order_of, remove_orders, write_order
from service.executors.slurm.commands import COMMANDS, Rejected, SlurmCommands
from service.executors.slurm.first_node import OF_SLURM
from service.executors.slurm.queue import SlurmQueue
from service.executors.slurm.states import SINFO_FORMAT, SlurmJob, most_advanced, parse_sinfo
from service.executors.slurm.submission import (
    batch_script,
    command_of,
    folder_of,
    name_of,
    prefix_of,
    sbatch_arguments,
)
from service.resources import CPUS, GPUS, LARGEST_NODE, ResourceCounts
from service.settings import Settings

CAPACITY_S = 60.0
"""Time between two readings of the nodes."""
FILES_S = 90.0
"""Time in which exit.json of a job must appear that has ended well, or that Slurm does not know any more.

A file server may show it late to this host, and a controller that has lost its state has the job killed.
"""

log = logging.getLogger(__name__)


class SlurmExecutor:
    """The `Executor` of a Slurm cluster. All that must outlive it is in the folders of the attempts and in Slurm.

    An attempt is found by the name of its job. Only the shim that has claimed the attempt runs it, so neither a second
    submission nor a late start does harm (`service.executors.shim_contract`).
    """

    is_bound_to_host = False

    def __init__(self, settings: Settings, commands: SlurmCommands | None = None) -> None:
        self._settings = settings
        self._commands = commands or SlurmCommands()
        self._queue = SlurmQueue(self._commands)
        self._options = _options(settings)
        self._capacity: ResourceCounts = {}
        self._capacity_until = 0.0
        self._ended_at: dict[Path, float] = {}
        self._swept_at: dict[Path, float] = {}
        self._reasons: dict[str, str] = {}

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        try:
            _options(settings)
        except ValueError as error:
            raise RequirementsNotMet(f"slurm_options: {error}; write them as in a shell") from error
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if missing:
            raise RequirementsNotMet(
                f"the command {missing[0]} is missing; install Slurm's client on this host, in the cluster's version"
            )
        try:
            capacity = cls(settings)._read_capacity()
        except ExecutorUnavailable as error:
            raise RequirementsNotMet(
                f"{error}; check that `sinfo` answers here: slurm.conf, the MUNGE key and slurmctld"
            ) from error
        if not capacity[CPUS]:
            name = settings.slurm_partition or "of the default"
            raise RequirementsNotMet(f"Slurm's partition {name} has no nodes; set --slurm-partition to one of `sinfo`")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings)

    def capacity(self) -> ResourceCounts:
        """Return what the nodes of the partition have, whether they are up or not; settings may lower it."""
        if time.monotonic() >= self._capacity_until:
            found = dict(self._read_capacity())
            limits = {CPUS: self._settings.cpus, GPUS: self._settings.gpus}
            limits |= {LARGEST_NODE + name: limit for name, limit in limits.items()}
            found |= {name: min(found[name], limit) for name, limit in limits.items() if limit is not None}
            if not found[CPUS]:
                raise ExecutorUnavailable("Slurm: the partition has no nodes")
            self._capacity, self._capacity_until = found, time.monotonic() + CAPACITY_S
        return self._capacity

    def _read_capacity(self) -> ResourceCounts:
        partition = self._settings.slurm_partition
        options = [f"--partition={partition}"] if partition else []
        return parse_sinfo(self._commands.ask("sinfo", "--noheader", "--Node", f"--format={SINFO_FORMAT}", *options))

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        return ()

    def start(self, spec: AttemptSpec) -> None:
        """Submit an attempt, unless a job has its name or has claimed it.

        Raises:
            OSError: the order cannot be written, or Slurm rejects the job.
        """
        folder = spec.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if AttemptDir(folder).run_json.exists() or self._jobs_of(folder, since=time.monotonic()):
            return
        inherited = OF_SLURM if spec.num_nodes > 1 else ()
        devices = None if spec.resources.get(GPUS) else ""
        write_order(folder, order_of(replace(spec, command=command_of(spec)), devices, inherited))
        if spec.start_until is not None and time.monotonic() > spec.start_until:
            return
        needed = {name: os.environ[name] for name in INHERITED if name in os.environ}
        try:
            self._commands.run(
                *sbatch_arguments(spec, self._options),
                script=batch_script(folder),
                environment=child_environment(needed),
            )
        except Rejected as error:
            raise OSError(f"Slurm rejects its job: {error}") from error
        finally:
            self._queue.forget()

    def poll(self, folder: Path) -> Observation:
        folder = folder.resolve()
        files = AttemptDir(folder)
        ending = AttemptExit.read_if_valid(files.exit_json)
        if ending is not None and ending.code in (ExitCode.DONE, ExitCode.STOPPED):
            return Observation("exited", ending.code)
        is_claimed, asked_at = files.run_json.exists(), time.monotonic()
        job = most_advanced(self._jobs_of(folder)) or most_advanced(self._jobs_of(folder, since=asked_at))
        if job is not None and job.phase != "ended":
            if job.phase == "waiting":
                self._log_reason(job)
            # The state also says why a command has failed, so it is awaited.
            return Observation("alive" if is_claimed else "pending")
        # Read after the job was found ended, so that the last write of its shim is seen.
        ending = AttemptExit.read_if_valid(files.exit_json)
        if ending is None and job is None and not is_claimed:
            return Observation("absent")
        state = job.state if job else self._queue.past_state(name_of(folder))
        if ending is None and state in (None, "COMPLETED") and self._is_awaited(folder):
            return Observation("alive")
        self._ended_at.pop(folder, None)
        is_out_of_memory = state == "OUT_OF_MEMORY" or (ending is not None and ending.ran_out_of_memory)
        reason = f"Slurm has ended its job with the state {state}" if state else None
        if ending is not None:
            return Observation("exited", ending.code, is_out_of_memory, state == "PREEMPTED")
        return Observation("lost", None, is_out_of_memory, state == "PREEMPTED", reason)

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask the shim of an attempt to end it; one that has not started yet will not run the attempt."""
        folder = folder.resolve()
        is_prevented = self._claim(folder)
        jobs = self._jobs_of(folder, since=time.monotonic())
        if is_prevented:
            self._queue.cancel([job for job in jobs if job.phase != "ended"])
        else:
            self._queue.cancel([job for job in jobs if job.phase == "waiting"])
            self._queue.signal([job for job in jobs if job.phase == "running"], "USR1" if kill else "TERM")

    def sweep(self, folder: Path) -> bool:
        """Kill all jobs of an attempt; return True once they have left their nodes."""
        folder = folder.resolve()
        if folder not in self._swept_at:
            self._claim(folder)
            self._swept_at[folder] = time.monotonic()
        with suppress(OSError):
            remove_orders(folder)
        has_exited = AttemptExit.read_if_valid(AttemptDir(folder).exit_json) is not None
        jobs = [job for job in self._jobs_of(folder, since=self._swept_at[folder]) if job.phase != "ended"]
        # The shim has written exit.json after all processes of the attempt, and Slurm cleans up.
        if not jobs or (has_exited and all(job.phase == "ending" for job in jobs)):
            del self._swept_at[folder]
            return True
        self._queue.kill(jobs)
        return False

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        prefix = prefix_of(below)
        found = {
            name
            for name, jobs in self._queue.jobs(since=time.monotonic()).items()
            if name.startswith(prefix) and any(job.phase in ("waiting", "running") for job in jobs)
        }
        for name in found - {name_of(folder) for folder in known} if found else ():
            log.warning("Slurm's job %s belongs to no active job; it is cancelled", name)
            self.sweep(folder_of(name, below))

    def _jobs_of(self, folder: Path, since: float = float("-inf")) -> list[SlurmJob]:
        return self._queue.jobs(since).get(name_of(folder), [])

    def _claim(self, folder: Path) -> bool:
        """Return True if no shim runs the attempt, and none will."""
        try:
            return claim(folder, ShimProcess())
        except OSError:
            # The folder is missing or not writable.
            return False

    def _is_awaited(self, folder: Path) -> bool:
        """Return True if a shim has run the attempt, and its exit.json may appear yet."""
        run = ShimProcess.read_if_valid(AttemptDir(folder).run_json)
        if run is not None and run.pid is None:
            # The attempt was claimed so that no shim runs it.
            return False
        return time.monotonic() - self._ended_at.setdefault(folder, time.monotonic()) <= FILES_S

    def _log_reason(self, job: SlurmJob) -> None:
        if job.reason != "None" and self._reasons.get(job.name) != job.reason:
            self._reasons[job.name] = job.reason
            log.info("Slurm's job %s (%s) waits: %s", job.id, job.name, job.reason)


def _options(settings: Settings) -> tuple[str, ...]:
    """Return the options of `sbatch` that the settings contain; raises ValueError if they cannot be split."""
    chosen = {"partition": settings.slurm_partition, "account": settings.slurm_account}
    named = [f"--{name}={value}" for name, value in chosen.items() if value]
    return (*named, *shlex.split(settings.slurm_options or ""))
