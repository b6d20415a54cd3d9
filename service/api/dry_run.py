"""Dry runs: a supervised child process, which may import torch, reports what a job would train."""

import json
import os
from typing import Any

from fastapi import Request

from pipelines.base.errors import ConfigError, FieldProblem, RegistryError
from pipelines.base.links import LINKS_VARIABLE
from pipelines.data.dataset.roots import DATA_ROOTS_VARIABLE
from pipelines.run_folder.layout import RUNS_ROOT_VARIABLE, TENANT_VARIABLE
from pipelines.spec.load import write_yaml
from service.api.child_runs import STDIN_PATH, ChildRuns
from service.api.mlflow_waits import environment_without_short_waits
from service.api.thread_pools import ThreadPool
from service.child_process import child_environment, python_command
from service.datasets.resolution import data_roots_of_jobs
from service.inherited_environment import inherited_environment
from service.jobs.document_paths import document_problems
from service.jobs.errors import InvalidJob
from service.rest.problems import Problem
from service.settings import Settings
from service.settings_secrets import SECRET_SETTINGS


class DryRuns:
    """Runs `pipelines.cli check` for clients, with a limited number in progress.

    Args:
        threads: for everything that blocks: files, and the search for processes to kill.
    """

    def __init__(self, settings: Settings, threads: ThreadPool) -> None:
        self._settings = settings
        self._children = ChildRuns(
            "check",
            threads,
            limit_s=settings.dry_run_timeout_s,
            limit_variable="PYRAMIDION_DRY_RUN_TIMEOUT_S",
        )

    async def run(self, request: Request, config: dict[str, Any], config_at: tuple[str, ...]) -> dict[str, Any]:
        """Return the child's report: config, data_report, stages, trainable.

        `config_at` is the path of the document in the request, for problems.

        Raises:
            InvalidJob: the job is invalid.
            Problem: 503 if the job is initialized from a registered model and MLflow does not answer; or as
                `ChildRuns.run`.
        """
        code, output = await self._children.run(
            request,
            python_command("pipelines.cli", "check", "--config", STDIN_PATH, "--json"),
            self._environment(request.state.principal.tenant),
            reported=[ConfigError.exit_code, RegistryError.exit_code],
            stdin=write_yaml(config).encode(),
        )
        reported = json.loads(output)
        if code == ConfigError.exit_code:
            # The document was validated before, so a problem without a field concerns the data.
            problems = [FieldProblem(problem["field"] or "data", problem["message"]) for problem in reported]
            raise InvalidJob(problem.below(*config_at) for problem in document_problems(problems, config))
        if code == RegistryError.exit_code:
            (problem,) = reported
            raise Problem(503, "The model registry does not answer", problem["message"], headers={"Retry-After": "5"})
        return dict(reported)

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
