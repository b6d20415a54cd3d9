"""Thread pools for blocking work, one for each kind of work, so that one that hangs does not stop the others.

A thread that waits for a database or for MLflow cannot be interrupted. So each kind of work has its own threads, a
limited number of calls that wait for one, and a deadline; a client that cannot be served in time gets 503. Torch-free.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from enum import StrEnum
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from pipelines.base.errors import RegistryError
from service.rest.problems import Problem
from service.settings import Settings
from service.storage.base import StorageUnavailable
from service.store.errors import StoreUnavailable

P = ParamSpec("P")
R = TypeVar("R")

RETRY_AFTER_S = 5
PROBE_THREADS = 8


class Work(StrEnum):
    """The kinds of blocking work."""

    KEYS = "keys"
    READS = "database_reads"
    WRITES = "database_writes"
    EVENTS = "events"
    FILES = "files"
    STREAMS = "streams"
    CHECKS = "checks"
    COMPARISONS = "comparisons"
    DELETIONS = "deletions"
    UPLOADS = "uploads"
    ARCHIVES = "archives"
    DATASET_CHECKS = "dataset_checks"
    REGISTRY = "registry"
    PROBES = "probes"


SUBJECTS = {
    Work.KEYS: "the database",
    Work.READS: "the database",
    Work.WRITES: "the database",
    Work.EVENTS: "the database",
    Work.FILES: "the disk of the run folders",
    Work.STREAMS: "the disk of the run folders",
    Work.CHECKS: "the check of the files",
    Work.COMPARISONS: "the disk of the run folders",
    Work.DELETIONS: "the deletion of the files",
    Work.UPLOADS: "the disk of uploads",
    Work.ARCHIVES: "the storage of archives",
    Work.DATASET_CHECKS: "the storage of data sets",
    Work.REGISTRY: "the model registry (MLflow)",
    Work.PROBES: "the check",
}
"""The subject of the message if work of a kind takes too long."""


class NoAnswer(Problem):
    """Blocking work was not finished in time, or not even started."""

    def __init__(self, subject: str, detail: str) -> None:
        title = f"{subject[0].upper()}{subject[1:]} does not answer"
        super().__init__(503, title, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class ThreadPool:
    """The threads for one kind of work. Use it in the event loop.

    Args:
        num_threads: maximum number of calls at the same time.
        num_waiting: maximum number of calls that wait for a thread.
        timeout_s: seconds after which the caller gets NoAnswer, although the thread may still be busy.

    Attributes:
        answered_at: time of the last call that got an answer, in seconds since 1970; 0 before the first.
        failures: number of calls without an answer, by reason: `full` (rejected at once), `timeout`, and `error` (of
            the database, MLflow or the storage).
        failing_since: time of the first failure after the last answer, of the monotonic clock; None without one.
    """

    def __init__(self, work: Work, num_threads: int, num_waiting: int, timeout_s: float) -> None:
        self.work = work
        self.num_threads = num_threads
        self.answered_at = 0.0
        self.failures: dict[Literal["full", "timeout", "error"], int] = {"full": 0, "timeout": 0, "error": 0}
        self.failing_since: float | None = None
        self._capacity = num_threads + num_waiting
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix=work.value)
        self._lock = threading.Lock()  # held for a few instructions only
        self._num_unfinished = 0

    @property
    def num_unfinished(self) -> int:
        """Number of calls that run or wait, including those whose caller has given up."""
        return self._num_unfinished

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of a blocking function.

        Raises:
            NoAnswer: no thread was free and too many calls wait for one, or the function took too long.
        """
        if self._num_unfinished >= self._capacity:
            self.failures["full"] += 1
            subject = SUBJECTS[self.work]
            raise NoAnswer(subject, f"{self._num_unfinished} requests already wait for {subject}; try again later")
        call = self._submit(partial(function, *args, **kwargs))
        answer = asyncio.wrap_future(call)
        try:
            await asyncio.wait({answer}, timeout=self._timeout_s)
            if not answer.done():
                self._count_failure("timeout")
                raise NoAnswer(SUBJECTS[self.work], self._timeout_detail())
            if isinstance(answer.exception(), RegistryError | StoreUnavailable | StorageUnavailable):
                self._count_failure("error")
            else:
                self.answered_at, self.failing_since = time.time(), None
            return answer.result()
        finally:
            call.cancel()  # a call that no thread has started yet is dropped
            answer.cancel()

    def run_later(self, function: Callable[[], object]) -> "Future[object] | None":
        """Call a function when a thread is free, however many calls wait: it releases what another call has taken.

        Returns:
            The call, for which nobody need wait; None if the server stops.
        """
        try:
            return self._submit(function)
        except NoAnswer:
            return None

    @property
    def outage_s(self) -> float:
        """Seconds since the first failure after the last answer; 0 without one."""
        return 0.0 if self.failing_since is None else time.monotonic() - self.failing_since

    def _count_failure(self, reason: Literal["timeout", "error"]) -> None:
        self.failures[reason] += 1
        if self.failing_since is None:
            self.failing_since = time.monotonic()

    def close(self) -> None:
        """Accept no more calls, and drop those that have not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submit(self, function: Callable[[], R]) -> "Future[R]":
        with self._lock:
            self._num_unfinished += 1
        try:
            call = self._threads.submit(function)
        except RuntimeError:  # the server stops
            self._release()
            raise NoAnswer(SUBJECTS[self.work], "the server is stopping; send the request again") from None
        call.add_done_callback(lambda _: self._release())
        return call

    def _release(self) -> None:
        with self._lock:
            self._num_unfinished -= 1

    def _timeout_detail(self) -> str:
        detail = f"{SUBJECTS[self.work]} did not answer within {self._timeout_s:g} s"
        if self.work in (Work.WRITES, Work.DELETIONS, Work.ARCHIVES):
            return f"{detail}; the change may still be made, so look before you send the request again"
        return f"{detail}; send the request again later"


class ThreadPools:
    """The thread pools of one application."""

    def __init__(self, settings: Settings) -> None:
        database = (settings.database_threads, settings.max_waiting, settings.database_timeout_s)
        files = (settings.file_threads, settings.max_waiting, settings.file_timeout_s)
        # Each connection has at most one call at a time, and a response that has started cannot be rejected.
        all_streams = settings.max_connections
        self._pools = {
            Work.KEYS: ThreadPool(Work.KEYS, 1, settings.max_waiting, settings.database_timeout_s),
            Work.READS: ThreadPool(Work.READS, *database),
            Work.WRITES: ThreadPool(Work.WRITES, *database),
            Work.EVENTS: ThreadPool(Work.EVENTS, settings.database_threads, all_streams, settings.database_timeout_s),
            Work.FILES: ThreadPool(Work.FILES, *files),
            Work.STREAMS: ThreadPool(Work.STREAMS, settings.file_threads, all_streams, settings.file_timeout_s),
            Work.CHECKS: ThreadPool(Work.CHECKS, *files),
            Work.COMPARISONS: ThreadPool(Work.COMPARISONS, *files),
            Work.DELETIONS: ThreadPool(Work.DELETIONS, *files),
            # An upload has one call at a time, besides those that close and delete files of earlier ones.
            Work.UPLOADS: ThreadPool(
                Work.UPLOADS, settings.file_threads, 2 * settings.uploads, settings.file_timeout_s
            ),
            # Writing 10 GiB to a disk or to S3 may take as long as their upload.
            Work.ARCHIVES: ThreadPool(
                Work.ARCHIVES, settings.file_threads, settings.uploads, settings.upload_timeout_s
            ),
            Work.DATASET_CHECKS: ThreadPool(
                Work.DATASET_CHECKS, settings.file_threads, settings.max_waiting, settings.upload_timeout_s
            ),
            Work.REGISTRY: ThreadPool(
                Work.REGISTRY, settings.registry_threads, settings.max_waiting, settings.registry_timeout_s
            ),
            Work.PROBES: ThreadPool(Work.PROBES, PROBE_THREADS, 2 * PROBE_THREADS, settings.probe_timeout_s),
        }

    def __getitem__(self, work: Work) -> ThreadPool:
        return self._pools[work]

    def all(self) -> list[ThreadPool]:
        """Return every pool."""
        return list(self._pools.values())

    def close(self) -> None:
        """Close every pool."""
        for pool in self.all():
            pool.close()


_pool: ContextVar[ThreadPool] = ContextVar("_pool")
"""The pool for the endpoint of the current request."""


class PooledRoute(APIRoute):
    """A route whose endpoint, if it is a plain function, runs in the thread pool of its kind of work.

    Attributes:
        work: kind of work of all endpoints of this class; by default reads or writes of the database, by method.
    """

    work: ClassVar[Work | None] = None

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint if iscoroutinefunction(endpoint) else _in_pool(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def with_pool(request: Request) -> Response:
            pools: ThreadPools = request.app.state.pools
            _pool.set(pools[self.work or (Work.READS if request.method == "GET" else Work.WRITES)])
            return await handler(request)

        return with_pool


def _in_pool(endpoint: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    @wraps(endpoint)
    async def in_pool(*args: P.args, **kwargs: P.kwargs) -> R:
        return await _pool.get().run(endpoint, *args, **kwargs)

    return in_pool


class FileRoute(PooledRoute):
    """A route that reads files."""

    work = Work.FILES
