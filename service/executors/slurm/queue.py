"""The jobs of this user in Slurm, read in bulk."""

import os
import time
from collections.abc import Collection
from contextlib import suppress

from service.executors.slurm.commands import Rejected, SlurmCommands
from service.executors.slurm.states import SQUEUE_FORMAT, SlurmJob, parse_sacct, parse_squeue

MAX_AGE_S = 1.0
"""Age up to which a list of jobs is used again: a round asks for each attempt."""
CANCEL_AGAIN_S = 5.0


class SlurmQueue:
    """Lists and cancels the jobs of this user."""

    def __init__(self, commands: SlurmCommands) -> None:
        self._commands = commands
        self._jobs: dict[str, list[SlurmJob]] = {}
        self._read_at = float("-inf")
        self._cancelled_at: dict[str, float] = {}
        self._has_accounting = True

    def jobs(self, since: float = float("-inf")) -> dict[str, list[SlurmJob]]:
        """Return the jobs by name, including those that have ended in the last minutes.

        Args:
            since: time of the monotonic clock; an older list is not used.

        Raises:
            ExecutorUnavailable: Slurm does not answer.
        """
        now = time.monotonic()
        if self._read_at < max(since, now - MAX_AGE_S):
            options = ("--noheader", "--states=all", f"--user={os.getuid()}", f"--format={SQUEUE_FORMAT}")
            listed = parse_squeue(self._commands.ask("squeue", *options))
            self._jobs = {}
            for job in listed:
                self._jobs.setdefault(job.name, []).append(job)
            self._read_at = now
        return self._jobs

    def forget(self) -> None:
        """Read the list again when it is needed next, because a job was submitted."""
        self._read_at = float("-inf")

    def signal(self, jobs: Collection[SlurmJob], name: str) -> None:
        """Send a signal to the first process of running jobs."""
        self._scancel(jobs, f"--signal={name}", "--batch")

    def cancel(self, jobs: Collection[SlurmJob]) -> None:
        """Cancel jobs that wait; those that run get SIGTERM, and SIGKILL after the cluster's KillWait."""
        self._scancel(jobs)

    def kill(self, jobs: Collection[SlurmJob]) -> None:
        """Kill all processes of jobs; repeated calls do so only from time to time.

        A shim does so at once. Slurm sends SIGTERM, even if SIGKILL is requested, and SIGKILL after KillWait.
        """
        now = time.monotonic()
        due = [job for job in jobs if now - self._cancelled_at.get(job.id, float("-inf")) >= CANCEL_AGAIN_S]
        self.signal([job for job in due if job.phase == "running"], "USR1")
        self._scancel(due)
        current = {job.id for same in self._jobs.values() for job in same}
        kept = {id: at for id, at in self._cancelled_at.items() if id in current}
        self._cancelled_at = {**kept, **{job.id: now for job in due}}

    def past_state(self, name: str) -> str | None:
        """Return the last state of a job that Slurm's controller has forgotten; None without accounting."""
        if not self._has_accounting:
            return None
        options = ("--noheader", "--parsable2", "--allocations", "--format=State", "--starttime=now-7days")
        try:
            return parse_sacct(self._commands.run("sacct", *options, f"--user={os.getuid()}", f"--name={name}"))
        except Rejected:
            self._has_accounting = False
            return None

    def _scancel(self, jobs: Collection[SlurmJob], *options: str) -> None:
        if not jobs:
            return
        # Slurm rejects jobs that have ended in the meantime; the next list shows them.
        with suppress(Rejected):
            self._commands.run("scancel", *options, *(job.id for job in jobs))
