"""Comparisons of jobs, in child processes: neither their memory nor their time is that of the API."""

import json
import os
from collections.abc import Sequence

from fastapi import Request

from pipelines.base.errors import ConfigError
from pipelines.run_folder.layout import RunDir
from service.api.child_runs import ChildRuns
from service.api.thread_pools import ThreadPool
from service.child_process import child_environment, python_command
from service.inherited_environment import inherited_environment
from service.rest.problems import Problem
from service.settings import Settings

MAX_JOBS = 10


class Comparisons:
    """Runs `pyramidion compare` for clients, with a limited number in progress.

    Args:
        threads: for everything that blocks: files, and the search for processes to kill.
    """

    def __init__(self, settings: Settings, threads: ThreadPool) -> None:
        self._settings = settings
        self._threads = threads
        self._children = ChildRuns(
            "comparison",
            threads,
            limit_s=settings.compare_timeout_s,
            limit_variable="PYRAMIDION_COMPARE_TIMEOUT_S",
        )

    async def run(self, request: Request, job_ids: Sequence[str], tasks: Sequence[str]) -> bytes:
        """Return the comparison of jobs that have results, as JSON.

        Raises:
            Problem: 413 if their predictions are too large; 422 if they cannot be compared; or as `ChildRuns.run`.
        """
        size, limit = await self._threads.run(self._size, job_ids), self._settings.compare_max_bytes
        if size > limit:
            detail = (
                f"these jobs have {size:,} bytes of predictions, but PYRAMIDION_COMPARE_MAX_BYTES allows {limit:,}; "
                "compare fewer jobs, or use `pyramidion compare` on the server"
            )
            raise Problem(413, "Too many predictions", detail)
        options = [f"--task={task}" for task in tasks]
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        code, output = await self._children.run(
            request,
            python_command("service.cli", "compare", "--json", *options, "--", *job_ids),
            child_environment({**inherited_environment(os.environ), **own}),
            reported=[ConfigError.exit_code],
            # Ids of jobs are the names of their run folders.
            cwd=self._settings.jobs_dir,
        )
        if code != 0:
            detail = "; ".join(f"{problem['field']}: {problem['message']}" for problem in json.loads(output))
            raise Problem(422, "Jobs cannot be compared", detail)
        return output

    def _size(self, job_ids: Sequence[str]) -> int:
        folders = [RunDir.of(self._settings.run_dir(job_id)) for job_id in job_ids]
        files = [
            path
            for folder in folders
            for path in (folder.result, *folder.predictions.glob("*"), *folder.ground_truth.glob("*"))
        ]
        return sum(path.stat().st_size for path in files if path.is_file())
