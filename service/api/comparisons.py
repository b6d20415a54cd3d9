"""Comparisons of jobs, in child processes: neither their memory nor their time is that of the API."""

import asyncio
import json
import logging
import os
from collections.abc import Sequence

from fastapi import Request

from pipelines.base.errors import ConfigError
from pipelines.run_folder.layout import RunDir
from service.api.child_runs import run_child, text_of, unnamed_file
from service.api.thread_pools import ThreadPool
from service.child_process import child_environment, python_command
from service.inherited_environment import inherited_environment
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.problems import Problem
from service.settings import Settings

logger = logging.getLogger(__name__)

AT_ONCE = 2
WAIT_S = 5.0
"""Maximum time that a comparison waits for its turn."""
MAX_JOBS = 10


class Comparisons:
    """Runs `pyramidion compare` for clients, with a limited number in progress.

    Args:
        threads: for everything that blocks: files, and the search for processes to kill.
    """

    def __init__(self, settings: Settings, threads: ThreadPool) -> None:
        self._settings = settings
        self._threads = threads
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self, request: Request, job_ids: Sequence[str], tasks: Sequence[str]) -> bytes:
        """Return the comparison of jobs that have results, as JSON.

        Raises:
            Problem: 413 if their predictions are too large; 422 if they cannot be compared; 503 if too many comparisons
                are in progress; 504 if the time limit is exceeded.
        """
        size, limit = await self._threads.run(self._size, job_ids), self._settings.compare_max_bytes
        if size > limit:
            detail = (
                f"these jobs have {size:,} bytes of predictions, but PYRAMIDION_COMPARE_MAX_BYTES allows {limit:,}; "
                "compare fewer jobs, or use `pyramidion compare` on the server"
            )
            raise Problem(413, "Too many predictions", detail)
        try:
            code, output, log = await unless_gone(request, self._run(job_ids, tasks))
        except ClientGone:
            raise Problem(CLIENT_CLOSED_REQUEST, "Client disconnected", "the comparison was cancelled") from None
        if code == ConfigError.exit_code:
            reported = json.loads(output)
            detail = "; ".join(f"{problem['field']}: {problem['message']}" for problem in reported)
            raise Problem(422, "Jobs cannot be compared", detail)
        if code != 0:
            logger.error("a comparison exited with code %d:\n%s", code, log[-4000:])
            detail = "the process of the comparison exited unexpectedly; see the server log"
            raise Problem(500, "The comparison failed", detail)
        return output

    def _size(self, job_ids: Sequence[str]) -> int:
        folders = [RunDir.of(self._settings.run_dir(job_id)) for job_id in job_ids]
        files = [
            path
            for folder in folders
            for path in (folder.result, *folder.predictions.glob("*"), *folder.ground_truth.glob("*"))
        ]
        return sum(path.stat().st_size for path in files if path.is_file())

    async def _run(self, job_ids: Sequence[str], tasks: Sequence[str]) -> tuple[int, bytes, str]:
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_S)
        except TimeoutError:
            detail = f"{AT_ONCE} comparisons are already in progress; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": "5"}) from None
        limit_s = self._settings.compare_timeout_s
        options = [f"--task={task}" for task in tasks]
        own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        try:
            with unnamed_file() as log:
                code, output = await run_child(
                    python_command("service.cli", "compare", "--json", *options, "--", *job_ids),
                    child_environment({**inherited_environment(os.environ), **own}),
                    self._threads,
                    limit_s=limit_s,
                    log=log,
                    # Ids of jobs are the names of their run folders.
                    cwd=self._settings.jobs_dir,
                )
                return code, output, text_of(log)
        except TimeoutError:
            detail = f"cancelled after {limit_s:g} s; PYRAMIDION_COMPARE_TIMEOUT_S sets the limit of the server"
            raise Problem(504, "The comparison took too long", detail) from None
        finally:
            self._turns.release()
