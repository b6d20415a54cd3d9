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

from pipelines.errors import ConfigError, FieldProblem, RegistryError
from pipelines.run_folder.layout import RUNS_ROOT_VARIABLE, AttemptDir, RunDir
from pipelines.spec.load import write_yaml
from service.api.submission import config_errors, refusal
from service.child_process import child_environment, die_with_parent, python_command
from service.executors.process_tree import kill
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.problems import Problem
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

        The child's whole tree is killed when this ends in any way, also where the client goes away meanwhile.

        Raises:
            Problem: 422 the job would not start; 503 too many dry runs go on, or MLflow does not answer where the job
                begins from a registered model; 504 it takes too long.
        """
        try:
            code, output, log = await unless_gone(request, self._run(config))
        except ClientGone:
            raise Problem(CLIENT_CLOSED_REQUEST, "Client gone", "the check was ended with its client") from None
        if code == ConfigError.exit_code:
            # The document itself was found right before: what names no field is wrong with its data.
            told = json.loads(output)
            problems = [FieldProblem(problem["field"] or "data", problem["message"]) for problem in told]
            raise refusal(config_errors(problems, config))
        if code == RegistryError.exit_code and output:
            (told,) = json.loads(output)
            raise Problem(503, "The model registry does not answer", told["message"], headers={"Retry-After": "5"})
        if code != 0:
            logger.error("a dry run ended with %d:\n%s", code, log[-4000:])
            raise Problem(500, "The check failed", "its process ended unexpectedly; the server's log says why")
        return dict(json.loads(output))

    async def _run(self, config: dict[str, Any]) -> tuple[int, bytes, str]:
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_S)
        except TimeoutError:
            detail = f"{AT_ONCE} dry runs go on already; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": "5"}) from None
        try:
            with tempfile.TemporaryDirectory(prefix="pyramidion-check-") as folder:
                return await self._check(config, Path(folder))
        finally:
            self._turns.release()

    async def _check(self, config: dict[str, Any], folder: Path) -> tuple[int, bytes, str]:
        """Return exit code, standard output and log of the child."""
        document, log = RunDir.of(folder).job_yaml, AttemptDir(folder).log
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
        limit_s = self._settings.dry_run_timeout_s
        try:
            output, _ = await asyncio.wait_for(child.communicate(), limit_s)
        except TimeoutError:
            detail = f"ended after {limit_s:g} s; PYRAMIDION_DRY_RUN_TIMEOUT_S of the server sets the limit"
            raise Problem(504, "The check takes too long", detail) from None
        finally:
            kill(lambda table: [process for process in table.values() if process.session == child.pid])
            code = await child.wait()
        return code, output, log.read_text("utf-8", "replace")

    def _environment(self) -> dict[str, str]:
        own = {**self._settings.environment(), RUNS_ROOT_VARIABLE: str(self._settings.root), "OMP_NUM_THREADS": "1"}
        return child_environment({**os.environ, **own})
