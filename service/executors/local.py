"""The executor `local`: attempts as processes of this host, each below its own shim, which outlives the service."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from pipelines.base.cores import num_cores
from pipelines.base.process_folder import remove_abandoned_folders
from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.boot_clock import boot_id
from service.child_process import child_environment, python_command
from service.executors.base import AttemptSpec, Observation, RequirementsNotMet
from service.executors.gpus import gpu_uuids
from service.executors.process_tree import (
    Process,
    Table,
    find_process,
    kill,
    processes,
    send_signal,
    start_ticks,
    variable_of,
    writes_to,
)
from service.executors.shim_contract import END, HELD, INHERITED, KILL, order_of
from service.resources import CPUS, GPUS, NODES, ResourceCounts
from service.settings import Settings

SWEEP_S = 1.0
"""Maximum time that one sweep waits for the processes that it has killed."""


class LocalExecutor:
    """The `Executor` of this host. It is stateless: everything about an attempt is in its folder and in /proc.

    Args:
        cpus: cores that attempts may use in total; None for all that this process may use.
        gpus: GPUs that attempts may use in total; None for all GPUs of this host.
        driver: a process whose end stops the attempts that are started here; None if they outlive every other process.
    """

    is_bound_to_host = True

    def __init__(self, cpus: int | None = None, gpus: int | None = None, driver: Process | None = None) -> None:
        self._cpus, self._driver = cpus or num_cores(), driver
        self._gpu_ids = gpu_uuids()[:gpus] if gpus != 0 else ()
        self._boot_id = boot_id()
        self._shims: list[subprocess.Popen[bytes]] = []

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        if sys.platform != "linux" or not Path("/proc/self/stat").exists():
            raise RequirementsNotMet("it finds processes in /proc; run the service on Linux with /proc mounted")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings.cpus, settings.gpus)

    def capacity(self) -> ResourceCounts:
        return {CPUS: self._cpus, GPUS: len(self._gpu_ids), NODES: 1}

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        """Return the UUIDs of the first GPUs that are not in use."""
        free = [gpu_id for gpu_id in self._gpu_ids if gpu_id not in in_use]
        return tuple(free[: resources.get(GPUS, 0)])

    def start(self, spec: AttemptSpec) -> None:
        """Start a shim; if several are started for one folder, only the first to write run.json runs the command.

        The command's environment is that of `spec`, with CUDA_VISIBLE_DEVICES and PYRAMIDION_ATTEMPT_DIR. It reaches
        the shim through memory that only the two share, never through a file.

        Raises:
            OSError: the folder cannot be created, or no process can be started.
        """
        self._reap()
        folder = spec.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if AttemptDir(folder).run_json.exists():
            return
        marker = {ATTEMPT_DIR_VARIABLE: str(folder)}
        needed = {name: os.environ[name] for name in INHERITED if name in os.environ}
        driver = None if self._driver is None else [self._driver.pid, start_ticks(self._driver)]
        order = {**order_of(spec, ",".join(spec.devices)), "start_until": spec.start_until, "driver": driver}
        with os.fdopen(os.memfd_create("order"), "w+b") as stdin, AttemptDir(folder).log.open("ab") as log:
            stdin.write(json.dumps(order).encode())
            stdin.seek(0)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
            try:
                shim = subprocess.Popen(
                    python_command("service.shim", str(folder)),
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=child_environment({**needed, **marker}),
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._shims.append(shim)

    def poll(self, folder: Path) -> Observation:
        """Return the state of an attempt; one that was just started is absent for a moment."""
        self._reap()
        folder = folder.resolve()
        run = _read_shim(folder)
        if run is not None and self._living(run):
            return Observation("alive")
        # Read after the shim was found dead, so that its last write is seen.
        ending = AttemptExit.read_if_valid(AttemptDir(folder).exit_json)
        if ending is not None:
            return Observation("exited", ending.code, ending.ran_out_of_memory)
        return Observation("absent" if run is None else "lost")

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to exit or kill its tree at once, even if its shim has not written run.json yet."""
        folder, number = folder.resolve(), KILL if kill else END
        run = _read_shim_if_possible(folder)
        if run is not None and run.pid is not None:
            shims = {shim} if (shim := self._living(run)) else set()
        else:
            shims = {process for process in _marked(folder, processes()) if process.pid == process.session}
        for shim in shims:
            send_signal(shim, number)

    def sweep(self, folder: Path) -> bool:
        """Kill all processes of an attempt, including a living shim; return True once all of them have exited.

        It waits for at most `SWEEP_S`. If the kernel needs longer, the next sweep continues. Temporary folders of
        processes that were killed are removed.
        """
        folder = folder.resolve()
        deadline = time.monotonic() + SWEEP_S
        while kill(lambda table: self._of_attempt(folder, table)):
            self._reap()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        remove_abandoned_folders()
        return True

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        found = {variable_of(process, ATTEMPT_DIR_VARIABLE) for process in processes().values()}
        below, wanted = below.resolve(), {folder.resolve() for folder in known}
        for folder in map(Path, filter(None, found)):
            if below in folder.parents and folder not in wanted:
                self.sweep(folder)

    def _living(self, run: ShimProcess) -> Process | None:
        """Return the shim that a run.json names, if it is alive."""
        if run.boot_id != self._boot_id or run.pid is None:
            return None
        process = find_process(run.pid)
        return process if process is not None and start_ticks(process) == run.start_time else None

    def _of_attempt(self, folder: Path, table: Table) -> set[Process]:
        """Return the processes of an attempt, at least one of each tree.

        They have its folder in their environment, or belong to its shim's session, even with another environment. The
        kernel does not reuse a pid while it names a session. But once the shim is dead, its session may have ended
        and its number may name another session, so at least one process in the session must be identified by its
        environment or by the log that it writes to.
        """
        marked = _marked(folder, table)
        run = _read_shim_if_possible(folder)
        if run is None or run.boot_id != self._boot_id or run.pid is None:
            return marked
        session = {process for process in table.values() if process.session == run.pid}
        leader = table.get(run.pid)
        if leader is not None:
            return marked | session if start_ticks(leader) == run.start_time else marked
        is_its = any(process in marked or writes_to(process, AttemptDir(folder).log) for process in session)
        return marked | session if is_its else marked

    def _reap(self) -> None:
        """Collect the exit codes of ended shims, so that none remains a zombie."""
        self._shims = [shim for shim in self._shims if shim.poll() is None]


def _read_shim(folder: Path) -> ShimProcess | None:
    """Return the content of run.json; None if it is missing, without values if it is damaged."""
    try:
        return ShimProcess.read(AttemptDir(folder).run_json)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return ShimProcess()


def _read_shim_if_possible(folder: Path) -> ShimProcess | None:
    """Return the content of run.json; without values if it cannot be read, as an attempt must end nevertheless."""
    try:
        return _read_shim(folder)
    except OSError:
        return ShimProcess()


def _marked(folder: Path, table: Table) -> set[Process]:
    return {p for p in table.values() if variable_of(p, ATTEMPT_DIR_VARIABLE) == str(folder)}
