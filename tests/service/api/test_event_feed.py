"""The event feed with a real store, and the queries that it sends."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from service.api import event_stream
from service.api.event_feed import EventFeed
from service.api.event_stream import SLICE, poll_events, stream_events
from service.api.thread_pools import ThreadPools
from service.settings import Settings
from service.store.database import open_database
from service.store.errors import NotFound
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from tests.service.waiting import TIMEOUT_S

MakeJob = Callable[[], Job]
Record = Callable[..., Job]


class Queries(list[str]):
    """Statements that were sent to the database."""

    def of(self, part: str) -> int:
        return sum(part in query for query in self)


@pytest.fixture
def queries(settings: Settings) -> Iterator[tuple[JobStore, Queries]]:
    """A store that records its queries."""
    engine, noted = open_database(settings.url_of_database), Queries()

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        noted.append(" ".join(statement.split()))

    yield JobStore(engine), noted
    engine.dispose()


@pytest.fixture
def pools(settings: Settings) -> Iterator[ThreadPools]:
    """The threads of one application."""
    pools = ThreadPools(settings)
    yield pools
    pools.close()


async def listen(feed: EventFeed, job_id: str) -> bytes:
    channel = feed.channel(job_id)
    found = await channel.read_shared(0, SLICE)
    return b"".join([chunk async for chunk in stream_events(channel, found)])


def test_listeners_at_the_same_position_share_one_read(
    queries: tuple[JobStore, Queries],
    running_job: MakeJob,
    end_job: Callable[[Job], Job],
    record: Record,
    pools: ThreadPools,
) -> None:
    store, noted = queries
    num_listeners, num_batches = 60, 8

    async def scenario() -> list[bytes]:
        nonlocal job
        feed = EventFeed(store, pools, 100)
        listeners = [asyncio.create_task(listen(feed, job.id)) for _ in range(num_listeners)]
        for batch in range(num_batches):
            await asyncio.sleep(0.25)
            job = await asyncio.to_thread(record, job, [batch])
        await asyncio.to_thread(end_job, job)
        heard = await asyncio.gather(*listeners)
        feed.stop()
        return heard

    job = running_job()
    heard = asyncio.run(scenario())
    assert len(set(heard)) == 1
    assert heard[0].count(b"event: metric\n") == num_batches
    # Each batch is read once, rarely in two parts; one query per listener would make 480 of them.
    assert num_batches <= noted.of("events.job_id =") <= 3 * num_batches


def test_database_is_not_queried_without_listeners(
    queries: tuple[JobStore, Queries], running_job: MakeJob, pools: ThreadPools
) -> None:
    store, noted = queries
    job = running_job()

    async def scenario() -> None:
        feed = EventFeed(store, pools, 100)
        channel = feed.channel(job.id)
        await channel.wait(0, 0.5)
        assert noted.of("events.seq >") > 0
        ticker = feed._ticker
        assert ticker is not None
        del channel
        gc.collect()
        await asyncio.wait_for(ticker, TIMEOUT_S)
        asked = len(noted)
        await asyncio.sleep(0.5)
        assert len(noted) == asked
        feed.stop()

    asyncio.run(scenario())


def test_silent_stream_sends_pings_and_reads_missed_events(
    store: JobStore, running_job: MakeJob, record: Record, monkeypatch: pytest.MonkeyPatch, pools: ThreadPools
) -> None:
    monkeypatch.setattr(event_stream, "PING_S", 0.1)
    job = running_job()

    async def scenario() -> None:
        feed = EventFeed(store, pools, 100)
        # Simulate that the announcement of the next event is lost.
        feed._seen = 2**62
        channel = feed.channel(job.id)
        stream = stream_events(channel, await channel.read_shared(0, SLICE))
        assert (await anext(stream)).startswith(b"retry: ")
        assert b"event: status" in await anext(stream)
        assert await anext(stream) == b": ping\n\n"
        await asyncio.to_thread(record, job, [1])
        while (chunk := await anext(stream)) == b": ping\n\n":
            pass
        assert b"event: metric" in chunk
        feed.stop()

    asyncio.run(scenario())


def test_stream_and_a_poll_end_when_the_process_stops(
    store: JobStore, running_job: MakeJob, pools: ThreadPools
) -> None:
    job = running_job()

    async def scenario() -> None:
        feed = EventFeed(store, pools, 100)
        listener = asyncio.create_task(listen(feed, job.id))
        channel = feed.channel(job.id)
        newest = (await channel.read(0, 100)).next_after
        poll = asyncio.create_task(poll_events(channel, newest, 100, 3600.0))
        await asyncio.sleep(0.1)
        feed.stop()
        async with asyncio.timeout(TIMEOUT_S):
            assert (await listener).count(b"event: status") == 3
            assert not (await poll).events
        feed.stop()

    asyncio.run(scenario())


def test_stream_of_a_deleted_job_ends(
    store: JobStore, running_job: MakeJob, end_job: Callable[[Job], Job], record: Record, pools: ThreadPools
) -> None:
    job = record(running_job(), range(SLICE))
    job = end_job(job)

    async def scenario() -> None:
        feed = EventFeed(store, pools, 100)
        channel = feed.channel(job.id)
        first = await channel.read_shared(0, SLICE)
        assert first.is_full
        store.delete(job.id)
        chunks = [chunk async for chunk in stream_events(channel, first)]
        assert len(chunks) == 2
        with pytest.raises(NotFound):
            await poll_events(channel, 0, 10, 0.0)
        feed.stop()

    asyncio.run(scenario())


def test_no_event_appears_before_an_event_that_was_already_read(
    settings: Settings, store: JobStore, running_job: MakeJob
) -> None:
    """There are two writers, like the API and the supervisor, each with its own connection, and a concurrent reader."""
    job = running_job()
    new_job = NewJob(name="other", config={}, priority=0, cpus=1, gpus=0)
    stop = threading.Event()
    engines = [open_database(settings.url_of_database) for _ in range(2)]

    def supervise() -> None:
        leases, held = LeasedStore(engines[0], "tests"), job
        for step in range(150):
            new = {"time": time.time(), "kind": "metric", "epoch": 0, "step": step, "data": {}}
            held = leases.record_events(held, [new] * (1 + step % 3), held.events_offset + 1)

    def submit_and_cancel() -> None:
        api = JobStore(engines[1])
        for _ in range(75):
            mine, _ = api.submit(new_job)
            api.request_cancel(mine.id)

    writers = [threading.Thread(target=write) for write in (supervise, submit_and_cancel)]

    def read_until_stopped() -> tuple[list[int], dict[str, int]]:
        cursor, of_job, newest = 0, 0, {}
        read: list[int] = []
        while True:
            is_last = stop.is_set()
            found = store.newest_seq(cursor)
            assert all(seq > cursor for seq in found.values())
            newest |= found
            cursor = max(found.values(), default=cursor)
            rows = [row.seq for row in store.events(job.id, of_job)]
            read += rows
            of_job = max([of_job, *rows])
            if is_last:
                return read, newest

    for writer in writers:
        writer.start()
    reader: list[tuple[list[int], dict[str, int]]] = []
    reading = threading.Thread(target=lambda: reader.append(read_until_stopped()))
    reading.start()
    for writer in writers:
        writer.join()
    stop.set()
    reading.join()
    read, newest = reader[0]
    assert read == [row.seq for row in store.events(job.id, 0, 10_000)]
    assert newest == store.newest_seq(0)
    for engine in engines:
        engine.dispose()
