"""Events and logs of a job, complete or as a stream while the job runs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from pipelines.run_folder.layout import AttemptDir, RunDir
from service.api.access import needs
from service.api.content_negotiation import preferred
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.api.event_feed import Channel, EventFeed
from service.api.event_stream import SLICE, poll_events, stream_events
from service.api.listener_response import UNBUFFERED, ListenerResponse
from service.api.log_reader import tail_start
from service.api.log_stream import LogRange, as_ndjson, as_text, stream_log
from service.api.thread_pools import ThreadPools, Work
from service.rest.problems import Problem, problems
from service.rest.schemas import EventPage
from service.scopes import Scope
from service.settings import Settings
from service.store.records import Job

MAX_WAIT_S = 30.0
MAX_TAIL = 100_000

JSON, SSE = "application/json", "text/event-stream"
TEXT, NDJSON = "text/plain", "application/x-ndjson"


@asynccontextmanager
async def _feed_of(app: FastAPI) -> AsyncIterator[None]:
    pools: ThreadPools = app.state.pools
    feed = await pools[Work.EVENTS].run(EventFeed, app.state.store, pools, app.state.settings.max_event_streams)
    app.state.event_feed = feed
    app.state.metrics.listeners.set_function(lambda: feed.num_listeners)
    try:
        yield
    finally:
        feed.stop()


router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events and logs"], lifespan=_feed_of)


async def _channel(request: Request, job_id: JobId, jobs: JobsDep, principal: PrincipalDep) -> Channel:
    channel = cast(EventFeed, request.app.state.event_feed).channel(job_id)
    # Listeners share what a channel reads, so that each request must show that it may see the job.
    if principal.visible_tenant is not None:
        await channel.feed.read(jobs.find, principal, job_id)
    return channel


ChannelDep = Annotated[Channel, Depends(_channel)]
Accept = Annotated[str | None, Header(include_in_schema=False)]

_STREAM = {
    "type": "string",
    "description": "server-sent events: `id` is `seq`, `event` is `kind`, `data` is an EventView as JSON",
}


@router.get(
    "/events",
    dependencies=[needs(Scope.JOBS_READ)],
    response_model=EventPage,
    responses={
        200: {"content": {SSE: {"schema": _STREAM}}, "description": "Events after `after`, a page or a stream"},
        204: {"description": "In response to a stream request: the job has ended and no more events will follow"},
        **problems(404, 406, 503),
    },
)
async def read_events(
    channel: ChannelDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="sequence number of the last event received")] = 0,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the first event; ignored by streams")
    ] = 0.0,
    limit: Annotated[int, Query(ge=1, le=1000, description="maximum number of events; ignored by streams")] = 500,
    last_event_id: Annotated[
        str | None, Header(pattern="^[0-9]{1,18}$", description="takes precedence over `after`")
    ] = None,
    accept: Accept = None,
) -> Response:
    """Return events after a sequence number, as a JSON page or as a stream (`Accept: text/event-stream`).

    A page waits for its first event if `wait` is given. A stream ends after the `status` event that ends the job.
    """
    after = after if last_event_id is None else int(last_event_id)
    if _negotiate(accept, (JSON, SSE)) == JSON:
        found = await poll_events(channel, after, limit, wait)
        page = EventPage(events=list(found.events), next_after=found.next_after, is_over=found.is_over)
        return Response(page.model_dump_json(), media_type=JSON)
    channel.feed.check_room()
    found = await channel.read_shared(after, SLICE)
    if found.is_over and not found.events:
        return Response(status_code=204)
    return ListenerResponse(channel.feed, stream_events(channel, found), SSE)


@router.get(
    "/logs",
    dependencies=[needs(Scope.JOBS_READ)],
    response_class=Response,
    responses={
        200: {
            "content": {TEXT: {"schema": {"type": "string"}}, NDJSON: {"schema": {"type": "string"}}},
            "description": "The log as text, or as one LogLine (attempt, offset, text) per line",
        },
        **problems(404, 406, 503),
    },
)
async def read_logs(
    channel: ChannelDep,
    settings: SettingsDep,
    attempt: Annotated[
        Annotated[int, Query(ge=1, le=2**31 - 1)] | Literal["all"] | None,
        Query(description="number of the attempt, or `all`; by default the last attempt"),
    ] = None,
    tail: Annotated[
        int | None, Query(ge=0, le=MAX_TAIL, description="return only this number of lines at the end")
    ] = None,
    after: Annotated[
        int, Query(ge=0, le=2**63 - 1, description="return only the log after this byte offset of the attempt")
    ] = 0,
    follow: Annotated[
        bool, Query(description="keep sending new lines, including those of later attempts, until the job ends")
    ] = False,
    accept: Accept = None,
) -> StreamingResponse:
    """Return logs of attempts, without colors and without overwritten states of progress bars."""
    form = as_text if _negotiate(accept, (TEXT, NDJSON)) == TEXT else as_ndjson
    if follow:
        channel.feed.check_room()
    job = await channel.job()
    first, last = _attempts(job, attempt)
    if after and attempt == "all" and last > 1:
        raise Problem(
            422, "The request is invalid", "after is a byte offset in one attempt; add its number, such as ?attempt=1"
        )
    start = after
    if tail is not None:
        first, start = await channel.feed.read_file(_tail, settings, job.id, first, last, after, tail)
    wanted = LogRange(first, start, None if follow else last)
    stream = stream_log(channel, lambda number: _log_path(settings, job.id, number), wanted, form)
    media_type = TEXT if form is as_text else NDJSON
    if follow:
        return ListenerResponse(channel.feed, stream, media_type)
    return StreamingResponse(stream, media_type=media_type, headers=UNBUFFERED)


def _negotiate(accept: str | None, offered: Sequence[str]) -> str:
    chosen = preferred(accept, offered)
    if chosen is None:
        raise Problem(406, "Not acceptable", f"Accept: got {accept!r}; available: {', '.join(offered)}")
    return chosen


def _attempts(job: Job, asked: int | Literal["all"] | None) -> tuple[int, int]:
    """Return the first and the last requested attempt; 0 before the first attempt."""
    if asked is None:
        return job.attempt, job.attempt
    if asked == "all":
        return min(1, job.attempt), job.attempt
    if asked > job.attempt:
        available = f"1 to {job.attempt}" if job.attempt else "none yet"
        raise Problem(
            404, "Attempt not found", f"job {job.id} does not have attempt {asked}; its attempts: {available}"
        )
    return asked, asked


def _log_path(settings: Settings, job_id: str, attempt: int) -> Path:
    return AttemptDir(RunDir.of(settings.run_dir(job_id)).attempt(attempt)).log


def _tail(settings: Settings, job_id: str, first: int, last: int, after: int, num_lines: int) -> tuple[int, int]:
    """Return the attempt and the byte offset where the last `num_lines` lines of the attempts start."""
    attempt = last
    while True:
        start, found = tail_start(_log_path(settings, job_id, attempt), num_lines)
        num_lines -= found
        if num_lines <= 0 or attempt == first:
            return attempt, max(start, after)
        attempt -= 1
