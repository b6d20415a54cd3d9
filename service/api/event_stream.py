"""Events of a job as they come: as a stream of server-sent events, or one page that may be waited for. Torch-free."""

from collections.abc import AsyncIterator
from time import monotonic

from service.api.event_feed import Channel, EventSlice
from service.store.errors import NotFound

RETRY_MS = 3000
PING_S = 15.0
"""A stream says something at least this often, so that what lies between does not take it for dead."""
SLICE = 200
"""Events that a stream reads at once: what is kept for a client that reads slowly."""


async def stream_events(channel: Channel, found: EventSlice) -> AsyncIterator[bytes]:
    """Yield `found` and all that comes after it, until the job ends, is deleted, or this process stops."""
    channel.feed.num_listeners += 1
    try:
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
    except NotFound:
        return  # deleted
    finally:
        channel.feed.num_listeners -= 1


async def poll_events(channel: Channel, after: int, limit: int, wait_s: float) -> EventSlice:
    """Return events after a sequence number; where there is none, wait for the first.

    Raises:
        NotFound: the job is not there (any more).
    """
    until = monotonic() + wait_s
    found = await channel.read(after, limit)
    while not (found.events or found.is_over) and (left := until - monotonic()) > 0 and not channel.feed.is_stopping:
        await channel.wait(after, left)
        found = await channel.read_shared(after, limit)
    return found
