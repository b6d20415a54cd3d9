"""A response that lasts as long as its client follows events or logs. Torch-free."""

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.event_feed import EventFeed

UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class ListenerResponse(StreamingResponse):
    """A stream that occupies a place of the feed from its creation until it has been sent.

    The place is taken by the call that checks whether one is free: of many clients that come at once, no more are
    admitted than there are places.

    Raises:
        Problem: 503 if all places are taken.
    """

    def __init__(self, feed: EventFeed, stream: AsyncIterator[bytes], media_type: str) -> None:
        feed.take_place()
        self._feed = feed
        super().__init__(stream, media_type=media_type, headers=UNBUFFERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave_place()
