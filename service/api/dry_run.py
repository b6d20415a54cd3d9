"""Dry runs: a supervised child process, which may import torch, reports what a job would train."""

import asyncio
import json
import logging
import os
from contextlib import ExitStack
from typing import Any, BinaryIO

from fastapi import Request

from pipelines.base.errors import ConfigError, FieldProblem, RegistryError
from pipelines.base.links import LINKS_VARIABLE
from pipelines.data.dataset.roots import DATA_ROOTS_VARIABLE
from pipelines.run_folder.layout import RUNS_ROOT_VARIABLE, TENANT_VARIABLE
from pipelines.spec.load import write_yaml
from service.api.child_runs import run_child, text_of, unnamed_file
from service.api.mlflow_waits import environment_without_short_waits
from service.api.thread_pools import ThreadPool
from service.child_process import child_environment, python_command
from service.datasets.resolution import data_roots_of_jobs
from service.inherited_environment import inherited_environment
from service.jobs.document_paths import document_problems
from service.jobs.errors import InvalidJob
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.problems import Problem
from service.settings import Settings
from service.settings_secrets import SECRET_SETTINGS

logger = logging.getLogger(__name__)

AT_ONCE = 2
WAIT_S = 5.0
"""Maximum time that a dry run waits for its turn."""


class DryRuns:
    """Runs `pipelines.cli check` for clients, with a limited number in progress.

    Args:
        threads: for everything that blocks: files, and the search for processes to kill.
    """

    def __init__(self, settings: Settings, threads: ThreadPool) -> None:
        self._settings = settings
        self._threads = threads
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, request: Request, config: dict[str, Any], config_at: tuple[str, ...]) -> dict[str, Any]:
        """Return the child's report: config, data_report, stages, trainable.

        `config_at` is the path of the document in the request, for problems.

        The child's whole process tree is killed at the end, even if the client disconnects.

        Raises:
            InvalidJob: the job is invalid.
            Problem: 503 if too many dry runs are in progress, or if the job is initialized from a registered model and
                MLflow does not answer; 504 if the time limit is exceeded.
        """
        try:
            code, output, log = await unless_gone(request, self._run(config, request.state.principal.tenant))
        except ClientGone:
            raise Problem(CLIENT_CLOSED_REQUEST, "Client disconnected", "the check was cancelled") from None
        if code == ConfigError.exit_code:
            # The document was validated before, so a problem without a field concerns the data.
            reported = json.loads(output)
            problems = [FieldProblem(problem["field"] or "data", problem["message"]) for problem in reported]
            raise InvalidJob(problem.below(*config_at) for problem in document_problems(problems, config))
        if code == RegistryError.exit_code and output:
            (problem,) = json.loads(output)
            raise Problem(503, "The model registry does not answer", problem["message"], headers={"Retry-After": "5"})
        if code != 0:
            logger.error("a dry run exited with code %d:\n%s", code, log[-4000:])
            raise Problem(500, "The check failed", "the process of the check exited unexpectedly; see the server log")
        return dict(json.loads(output))

    async def _run(self, config: dict[str, Any], tenant: str) -> tuple[int, bytes, str]:
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_S)
        except TimeoutError:
            detail = f"{AT_ONCE} dry runs are already in progress; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": "5"}) from None
        try:
            with ExitStack() as files:
                document, log = await self._threads.run(_unnamed_files, files, config)
                return await self._check(document, log, tenant)
        finally:
            self._turns.release()

    async def _check(self, document: BinaryIO, log: BinaryIO, tenant: str) -> tuple[int, bytes, str]:
        """Return the exit code, the standard output and the log of the child."""
        limit_s = self._settings.dry_run_timeout_s
        try:
            code, output = await run_child(
                python_command("pipelines.cli", "check", "--config", f"/proc/self/fd/{document.fileno()}", "--json"),
                self._environment(tenant),
                self._threads,
                limit_s=limit_s,
                log=log,
                pass_fds=[document.fileno()],
            )
        except TimeoutError:
            detail = f"cancelled after {limit_s:g} s; PYRAMIDION_DRY_RUN_TIMEOUT_S sets the limit of the server"
            raise Problem(504, "The check took too long", detail) from None
        return code, output, await self._threads.run(text_of, log)

    def _environment(self, tenant: str) -> dict[str, str]:
        own = {
            RUNS_ROOT_VARIABLE: str(self._settings.root),
            TENANT_VARIABLE: tenant,
            LINKS_VARIABLE: "refuse",
            "OMP_NUM_THREADS": "1",
            DATA_ROOTS_VARIABLE: os.pathsep.join(map(str, data_roots_of_jobs(self._settings))),
        }
        inherited = inherited_environment(environment_without_short_waits(), self._settings.trainer_variables)
        return child_environment({**inherited, **self._settings.environment(without=SECRET_SETTINGS), **own})


def _unnamed_files(files: ExitStack, config: dict[str, Any]) -> tuple[BinaryIO, BinaryIO]:
    """Open a file with the document and one for the log, until the stack is closed."""
    document, log = files.enter_context(unnamed_file()), files.enter_context(unnamed_file())
    document.write(write_yaml(config).encode())
    document.flush()
    return document, log
