"""Runs the commands of Slurm, with a time limit and without the environment of the service."""

import os
import re
import subprocess
import time
from collections.abc import Mapping

from service.executors.base import ExecutorUnavailable

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
TIMEOUT_S = 5.0
"""Time that a command may take: two of them are shorter than the lease of a supervisor."""
SILENCE_S = 3.0
"""Time after a failure in which no command is run, so that a silent cluster delays a round of many jobs only once."""

CONNECTION = ("PATH", "LD_LIBRARY_PATH", "SLURM_CONF", "HOME", "USER", "LOGNAME")
"""Variables that the commands may need. `sbatch` passes them to the job, so none of them is a secret."""

_SILENT = re.compile(
    r"unable to contact|timed out|connection (refused|reset)|connect failure|zero bytes|not responding|communication|"
    r"temporarily (unable|unavailable)|authentication|munge|backup controller|MaxSubmit",
    re.IGNORECASE,
)
"""Messages of a cluster that does not answer, or takes no more jobs at the moment."""


class Rejected(Exception):
    """Slurm has answered a command with an error; the message is Slurm's."""


class SlurmCommands:
    """The commands of the cluster that this host is configured for."""

    def __init__(self) -> None:
        self._timeout_s = TIMEOUT_S
        self._silent_until = 0.0
        self._silence = ""

    def run(self, *command: str, script: str | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Return what a command prints.

        Args:
            script: the standard input.
            environment: further variables.

        Raises:
            ExecutorUnavailable: the cluster does not answer.
            Rejected: it has answered with an error.
        """
        if time.monotonic() < self._silent_until:
            raise ExecutorUnavailable(self._silence)
        own = {name: os.environ[name] for name in CONNECTION if name in os.environ}
        try:
            done = subprocess.run(
                command,
                input=script or "",
                env={"LC_ALL": "C.UTF-8", **own, **(environment or {})},
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                timeout=self._timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise self._silent(f"Slurm: {command[0]} has not answered within {self._timeout_s:g} s") from None
        except OSError as error:
            raise self._silent(f"Slurm: {command[0]} cannot be run: {error}") from error
        if done.returncode == 0:
            return done.stdout
        problem = " ".join(done.stderr.split()) or f"{command[0]} has ended with code {done.returncode}"
        if _SILENT.search(problem):
            raise self._silent(f"Slurm does not answer: {problem}")
        raise Rejected(problem)

    def ask(self, *command: str) -> str:
        """Return what a command prints that changes nothing; raises ExecutorUnavailable for any failure."""
        try:
            return self.run(*command)
        except Rejected as error:
            raise self._silent(f"Slurm: {error}") from error

    def _silent(self, problem: str) -> ExecutorUnavailable:
        self._silent_until, self._silence = time.monotonic() + SILENCE_S, problem
        return ExecutorUnavailable(problem)
