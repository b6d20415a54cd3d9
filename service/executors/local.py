"""Attempts as processes of this host, each below a shim of its own, which outlives whoever has started it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.child_process import child_environment, python_command
from service.executors.base import AttemptSpec, Capacity, Observation
from service.executors.gpus import gpu_uuids
from service.executors.process_tree import (
    Process,
    Table,
    boot_id,
    find_process,
    kill,
    processes,
    send_signal,
    variable_of,
    writes_to,
)
from service.executors.shim_contract import END, HELD, KILL

SWEEP_S = 1.0
"""How long one sweep waits for what it has killed."""

INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
"""What a shim's interpreter may need; credentials of the service are not among it."""


class LocalExecutor:
    """The `Executor` of this host. It remembers nothing: all that it knows of an attempt is in the folder and in /proc.

    Args:
        cpus: cores that attempts may use in all.
        gpus: GPUs that they may use in all; None: those that are there.
    """

    def __init__(self, cpus: int, gpus: int | None = None) -> None:
        self._capacity = Capacity(cpus, gpu_uuids()[:gpus] if gpus != 0 else ())
        self._boot_id = boot_id()
        self._shims: list[subprocess.Popen[bytes]] = []

    def capacity(self) -> Capacity:
        return self._capacity

    def start(self, spec: AttemptSpec) -> None:
        """Start a shim; of several for one folder only the first to write run.json runs the command.

        The environment of the command is what `spec` says and PYRAMIDION_ATTEMPT_DIR. It goes to the shim by memory
        that only the two share, never through a file.

        Raises:
            OSError: the folder cannot be made, or no process can be started.
        """
        self._reap()
        folder = spec.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if AttemptDir(folder).run_json.exists():
            return
        marker = {ATTEMPT_DIR_VARIABLE: str(folder)}
        needed = {name: os.environ[name] for name in INHERITED if name in os.environ}
        order = {
            "command": spec.command,
            "environment": {**spec.environment, **marker},
            "cwd": str(spec.cwd.resolve()),
            "grace_s": spec.grace_s,
        }
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
        """Return what is known of an attempt; one that has just been started is absent for a moment."""
        self._reap()
        folder = folder.resolve()
        run = _read_shim(folder)
        if run is not None and self._living(run):
            return Observation("alive")
        # Read after the shim was seen dead: what it wrote last is there.
        ending = AttemptExit.read_if_valid(AttemptDir(folder).exit_json)
        if ending is not None:
            return Observation("exited", ending.code, ending.ran_out_of_memory)
        return Observation("absent" if run is None else "lost")

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to end, or kill its tree now; also one whose shim has not yet written run.json."""
        folder, number = folder.resolve(), KILL if kill else END
        run = _read_shim(folder)
        if run is not None:
            shims = {shim} if (shim := self._living(run)) else set()
        else:
            shims = {process for process in _marked(folder, processes()) if process.pid == process.session}
        for shim in shims:
            send_signal(shim, number)

    def sweep(self, folder: Path) -> bool:
        """Kill every process of an attempt, a shim that still lives first of all; return whether nothing is left.

        It waits for at most `SWEEP_S`; what the kernel needs longer for is left to the next sweep.
        """
        folder = folder.resolve()
        deadline = time.monotonic() + SWEEP_S
        while kill(lambda table: self._of_attempt(folder, table)):
            self._reap()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def sweep_strangers(self, known: Collection[Path], below: Path) -> None:
        below, wanted = below.resolve(), {folder.resolve() for folder in known}
        found = {variable_of(process, ATTEMPT_DIR_VARIABLE) for process in processes().values()}
        for folder in map(Path, filter(None, found)):
            if below in folder.parents and folder not in wanted:
                self.sweep(folder)

    def _living(self, run: ShimProcess) -> Process | None:
        """Return the living shim that a run.json tells of."""
        if run.boot_id != self._boot_id or run.pid is None:
            return None
        process = find_process(run.pid)
        return process if process is not None and process.start_time == run.start_time else None

    def _of_attempt(self, folder: Path, table: Table) -> set[Process]:
        """Return the processes of an attempt, at least one of each tree.

        They carry its folder in their environment, or are in its shim's session, even with another environment. The
        kernel gives no pid away while it names a session; but where the shim is dead, its session may have ended and
        its number be that of another one: so one process in it must be known by its environment, or by the log that
        it writes to.
        """
        marked = _marked(folder, table)
        run = _read_shim(folder)
        if run is None or run.boot_id != self._boot_id or run.pid is None:
            return marked
        session = {process for process in table.values() if process.session == run.pid}
        leader = table.get(run.pid)
        if leader is not None:
            return marked | session if leader.start_time == run.start_time else marked
        is_its = any(process in marked or writes_to(process, AttemptDir(folder).log) for process in session)
        return marked | session if is_its else marked

    def _reap(self) -> None:
        """Leave no zombies of shims that have ended."""
        self._shims = [shim for shim in self._shims if shim.poll() is None]


def _read_shim(folder: Path) -> ShimProcess | None:
    """Return the content of run.json; None where it is missing, without values where it is damaged."""
    try:
        return ShimProcess.read(AttemptDir(folder).run_json)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return ShimProcess()


def _marked(folder: Path, table: Table) -> set[Process]:
    return {p for p in table.values() if variable_of(p, ATTEMPT_DIR_VARIABLE) == str(folder)}
