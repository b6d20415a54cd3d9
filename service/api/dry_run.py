"""What a job would be: found out by a child process, which may import torch and is watched over."""

import asyncio
import json
import logging
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Request

from pipelines.errors import ConfigError
from pipelines.errors import Problem as FieldProblem
from pipelines.spec.load import write_yaml
from service.api.problems import Problem
from service.api.submission import config_errors, refusal
from service.child_process import child_environment, die_with_parent, python_command
from service.executors.process_tree import kill
from service.settings import Settings

logger = logging.getLogger(__name__)

AT_ONCE = 2
WAIT_S = 5.0
"""How long a dry run waits for its turn."""


class DryRuns:
    """Runs `pipelines.cli check` for clients, a few at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, request: Request, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the child says: config, data_report, stages, trainable.

        No process is left when this returns or raises, also where the client goes away meanwhile.

        Raises:
            Problem: 422 the job would not start; 503 too many dry runs go on; 504 it takes too long.
        """
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_S)
        except TimeoutError:
            detail = f"{AT_ONCE} dry runs go on already; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": "5"}) from None
        try:
            with tempfile.TemporaryDirectory(prefix="pyramidion-check-") as folder:
                code, output, log = await self._check(request, config, Path(folder))
        finally:
            self._turns.release()
        if code == ConfigError.exit_code:
            problems = [FieldProblem(**problem) for problem in json.loads(output)]
            raise refusal(config_errors(problems, config))
        if code != 0:
            logger.error("a dry run ended with %d:\n%s", code, log[-4000:])
            raise Problem(
                500, "The check failed", "the dry run's process ended unexpectedly; the server's log says why"
            )
        return dict(json.loads(output))

    async def _check(self, request: Request, config: dict[str, Any], folder: Path) -> tuple[int, bytes, str]:
        """Return exit code, standard output and log of the child."""
        document, log = folder / "job.yaml", folder / "log.txt"
        document.write_text(write_yaml(config), "utf-8")
        with log.open("wb") as stderr:
            child = await asyncio.create_subprocess_exec(
                *python_command("pipelines.cli", "check", "--config", str(document), "--json"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=self._environment(),
                cwd=folder,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, parent=os.getpid()),
            )
        answer = asyncio.ensure_future(child.communicate())
        gone = asyncio.ensure_future(_disconnected(request))
        limit_s = self._settings.dry_run_timeout_s
        try:
            done, _ = await asyncio.wait((answer, gone), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            kill(lambda table: [process for process in table.values() if process.session == child.pid])
            output, _ = await answer
        if gone in done:
            raise Problem(499, "Client gone", "the client has gone away, and the check was ended")
        if not done:
            detail = f"ended after {limit_s:g} s; PYRAMIDION_DRY_RUN_TIMEOUT_S of the server sets the limit"
            raise Problem(504, "The check takes too long", detail)
        assert child.returncode is not None
        return child.returncode, output, log.read_text("utf-8", "replace")

    def _environment(self) -> dict[str, str]:
        return child_environment({**os.environ, **self._settings.environment(), "OMP_NUM_THREADS": "1"})


async def _disconnected(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
