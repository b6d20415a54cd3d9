"""Events of a job as a stream of server-sent events, or as one page with an optional wait. Torch-free."""

from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

from service.api.event_feed import Channel, EventSlice
from service.api.thread_pools import NoAnswer
from service.store.errors import NotFound, StoreUnavailable

RETRY_MS = 3000
PING_S = 15.0
"""Maximum silence of a stream; proxies may close a stream that is silent for longer."""
SLICE = 200
"""Number of events that a stream reads at once, and so buffers for a slow client."""


async def stream_events(channel: Channel, found: EventSlice) -> AsyncIterator[bytes]:
    """Yield `found` and all later events, until the job ends or is deleted, or the server cannot continue."""
    # A job that is deleted has no more events. If the database fails, the client connects again and continues.
    with suppress(NotFound, StoreUnavailable, NoAnswer):
        yield f"retry: {RETRY_MS}\n\n".encode()
        while True:
            if found.events:
                yield found.frames
            if found.is_over or channel.feed.is_stopping:
                return
            after = found.next_after
            if found.is_full or await channel.wait(after, PING_S):
                found = await channel.read_shared(after, SLICE)
            else:
                yield b": ping\n\n"
                found = await channel.read(after, SLICE)


async def poll_events(channel: Channel, after: int, limit: int, wait_s: float) -> EventSlice:
    """Return events after a sequence number; if there are none, wait up to `wait_s` for the first one.

    Raises:
        NotFound: the job does not exist, or no longer.
    """
    until = monotonic() + wait_s
    found = await channel.read(after, limit)
    while (
        not (found.events or found.is_over)
        and (remaining_s := until - monotonic()) > 0
        and not channel.feed.is_stopping
    ):
        await channel.wait(after, remaining_s)
        found = await channel.read_shared(after, limit)
    return found
