"""Deliver events of jobs to listeners: one query detects new events for all, and one read serves all at one position.

The store commits events in the order of their sequence numbers, so that no event appears before one that was already
read. Torch-free.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

from service.api.thread_pools import RETRY_AFTER_S, ThreadPools, Work
from service.api.views import event_view
from service.rest.problems import Problem
from service.rest.schemas import EventView
from service.states import TERMINAL
from service.store.jobs import JobStore
from service.store.records import Event, Job

TICK_S = 0.2
_PAUSE_AFTER_ERROR_S = 5.0
_NUM_KEPT = 8
"""Number of slices that a channel caches, since listeners that connect one after another read the same slices."""

_logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class EventSlice:
    """Events of one job after a sequence number.

    Attributes:
        after: the sequence number.
        events: the events, in order.
        is_full: whether the database may already have more events.
        is_over: whether these are the job's last events.
    """

    after: int
    events: tuple[EventView, ...]
    is_full: bool
    is_over: bool

    @property
    def next_after(self) -> int:
        return self.events[-1].seq if self.events else self.after

    @cached_property
    def frames(self) -> bytes:
        """The events in the format of server-sent events, formatted once for all listeners."""
        return "".join(
            f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n" for event in self.events
        ).encode()


class EventFeed:
    """All listeners of one process. Use it in the event loop only.

    Args:
        pools: threads that read the database and logs for streams.
        max_listeners: maximum number of clients that follow events or logs.
    """

    def __init__(self, store: JobStore, pools: ThreadPools, max_listeners: int) -> None:
        self.store = store
        self.pools = pools
        self.is_stopping = False
        self.num_listeners = 0
        self._seen: int | None = None
        self._channels: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self._ticker: asyncio.Task[None] | None = None
        self._max_listeners = max_listeners

    def channel(self, job_id: str) -> "Channel":
        """Return the channel of a job. The database is polled as long as any channel is referenced."""
        channel = self._channels.get(job_id)
        if channel is None:
            self._channels[job_id] = channel = Channel(self, job_id)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.get_running_loop().create_task(self._watch())
        return channel

    async def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of a function that reads the database; raises NoAnswer."""
        return await self.pools[Work.EVENTS].run(function, *args, **kwargs)

    async def read_file(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of a function that reads or formats a log; raises NoAnswer."""
        return await self.pools[Work.STREAMS].run(function, *args, **kwargs)

    async def follow(self) -> int:
        """Return the number of the last event that was announced; raises NoAnswer, or StoreUnavailable.

        It is read before the first listener reads, instead of at the start, when the database may not answer yet.
        """
        if self._seen is None:
            seen = await self.read(self.store.last_seq)
            # Another listener may have been faster, and has read events after its own number.
            self._seen = seen if self._seen is None else self._seen
        return self._seen

    def check_room(self) -> None:
        """Raise Problem 503 if no more clients may follow events or logs."""
        if self.num_listeners >= self._max_listeners:
            detail = (
                f"{self.num_listeners} clients follow events or logs, which is the limit; try again later, or read "
                "pages of events with ?after="
            )
            raise Problem(503, "Too many streams", detail, headers={"Retry-After": str(RETRY_AFTER_S)})

    def take_place(self) -> None:
        """Count a client that follows events or logs, until `leave_place`; raises Problem 503 if there are too many."""
        self.check_room()
        self.num_listeners += 1

    def leave_place(self) -> None:
        """Stop counting a client."""
        self.num_listeners -= 1

    def stop(self) -> None:
        """Disconnect all listeners; clients resume after the next start of the process."""
        self.is_stopping = True
        for channel in list(self._channels.values()):
            channel.announce(channel.newest)

    async def _watch(self) -> None:
        while self._channels and not self.is_stopping:
            try:
                seen = await self.follow()
                newest = await self.read(self.store.newest_seq, seen)
            except Exception:  # the database may be reachable again later
                _logger.exception("cannot read new events; trying again in %g s", _PAUSE_AFTER_ERROR_S)
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                continue
            self._seen = max(newest.values(), default=seen)
            for job_id, channel in list(self._channels.items()):
                if job_id in newest:
                    channel.announce(newest[job_id])
            # A local name would keep a channel without listeners alive.
            channel = None  # type: ignore[assignment]
            await asyncio.sleep(TICK_S)


class Channel:
    """The events of one job, for all its listeners.

    Attributes:
        newest: sequence number of the newest event since the channel was created; 0 before the first event.
    """

    def __init__(self, feed: EventFeed, job_id: str) -> None:
        self.feed = feed
        self.job_id = job_id
        self.newest = 0
        self._changed = asyncio.Event()
        self._reads: dict[Hashable, asyncio.Future[Any]] = {}
        self._kept: OrderedDict[tuple[int, int], EventSlice] = OrderedDict()

    def announce(self, seq: int) -> None:
        """Wake all listeners for the event with this number."""
        self.newest = max(self.newest, seq)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait for an event after a sequence number; return False on a timeout, or if the process stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.newest <= after and not self.feed.is_stopping:
                    await self._changed.wait()
        return self.newest > after

    async def job(self) -> Job:
        """Return the job as it is now.

        Raises:
            NotFound: the job does not exist, or no longer.
        """
        return await self.feed.read(self.feed.store.get, self.job_id)

    async def job_shared(self) -> Job:
        """Return the job as `job` does, with one read for all concurrent callers.

        Raises:
            NotFound: the job does not exist, or no longer.
        """
        # A caller that was woken by an announcement must not share a read that started before it.
        return await self._share(("job", self.newest), self.job)

    async def read(self, after: int, limit: int) -> EventSlice:
        """Return at most `limit` events after a sequence number, as they are in the database now.

        Raises:
            NotFound: the job does not exist, or no longer.
        """
        await self.feed.follow()
        return await self.feed.read(_load, self.feed.store, self.job_id, after, limit)

    async def read_shared(self, after: int, limit: int) -> EventSlice:
        """Return events as `read` does, with one read for all listeners; events not announced yet may be missing.

        Raises:
            NotFound: the job does not exist, or no longer.
        """
        key = (after, limit)
        kept = self._kept.get(key)
        if kept is not None and (kept.is_full or kept.is_over or kept.next_after >= self.newest):
            return kept
        events = await self._share(key, lambda: self.read(after, limit))
        self._kept[key] = events
        if len(self._kept) > _NUM_KEPT:
            self._kept.popitem(last=False)
        return events

    async def _share(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Return the result of the read in progress for `key`; start one if there is none."""
        reading = self._reads.get(key)
        if reading is None:
            self._reads[key] = reading = asyncio.ensure_future(read())
            reading.add_done_callback(lambda _: self._reads.pop(key))
        # A listener that disconnects must not cancel the read for the others.
        return cast(R, await asyncio.shield(reading))


def _load(store: JobStore, job_id: str, after: int, limit: int) -> EventSlice:
    # Read the job first: if it has ended, the events read after it are complete.
    job = store.get(job_id)
    rows = store.events(job_id, after, limit)
    is_full = len(rows) == limit
    is_over = (job.status.is_terminal and not is_full) or (bool(rows) and _is_end(rows[-1]))
    return EventSlice(after, tuple(map(event_view, rows)), is_full and not is_over, is_over)


def _is_end(event: Event) -> bool:
    return event.kind == "status" and event.data.get("to") in TERMINAL
