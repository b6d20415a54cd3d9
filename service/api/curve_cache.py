"""Curves of jobs, kept in the memory of the API process, so that each request reads only new events. Torch-free."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence

from service.api.curves import JobCurves
from service.api.thread_pools import ThreadPool
from service.rest.job_detail_schemas import CurvesOfJob
from service.store.jobs import JobStore

_EVENTS_AT_ONCE = 500
"""The event loop adds this number of events in a few milliseconds."""
READ_S = 1.0
"""Seconds after which a request returns what has been read; 100,000 events take several."""
MAX_KEPT_POINTS = 2_000_000
"""Largest number of points of all jobs, about 64 MiB; the curves of jobs that were not read for the longest time go."""
_POINTS_OF_A_JOB = 1000
"""Points that each job counts in addition to its own, for the memory of its entry."""


class _Entry:
    def __init__(self) -> None:
        self.curves = JobCurves()
        self.lock = asyncio.Lock()


class CurveCache:
    """The curves of the jobs that were read last. Use it in the event loop.

    Args:
        threads: for reads of the database, and for the responses.
    """

    def __init__(self, store: JobStore, threads: ThreadPool) -> None:
        self._store, self._threads = store, threads
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def read(self, job_id: str, max_points: int, names: Sequence[str] = ()) -> bytes:
        """Return the response with the curves of a job as they are now; raises NoAnswer, or StoreUnavailable.

        The first requests for a job with many events return only the first ones. What was read, also before an error,
        is kept, so that the next request continues there.

        Args:
            max_points: maximum number of points of a curve.
            names: of the curves; by default all.
        """
        entry = self._entries.setdefault(job_id, _Entry())
        self._entries.move_to_end(job_id)
        curves, end = entry.curves, time.monotonic() + READ_S
        # Only this coroutine changes the curves: a thread whose caller has given up may still be at work.
        async with entry.lock:
            is_full = True
            while is_full:  # at least once, so that each request makes progress
                events = await self._threads.run(self._store.events, job_id, curves.last_seq, _EVENTS_AT_ONCE)
                curves.add(events)
                is_full = len(events) == _EVENTS_AT_ONCE
                if time.monotonic() > end:
                    break
            content = await self._threads.run(_response, curves, max_points, names, not is_full)
        self._drop_oldest()
        return content

    def _drop_oldest(self) -> None:
        sizes = {job_id: _POINTS_OF_A_JOB + entry.curves.num_points for job_id, entry in self._entries.items()}
        total = sum(sizes.values())
        while total > MAX_KEPT_POINTS and len(self._entries) > 1:
            job_id, _ = self._entries.popitem(last=False)
            total -= sizes[job_id]


def _response(curves: JobCurves, max_points: int, names: Sequence[str], is_complete: bool) -> bytes:
    found = CurvesOfJob(
        curves=curves.view(max_points, names),
        num_omitted=curves.num_omitted,
        next_after=curves.last_seq,
        is_complete=is_complete,
    )
    return found.model_dump_json().encode()
