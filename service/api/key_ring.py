"""The API keys as this process knows them: read from the database at most every few seconds, not for each request."""

import asyncio
import logging
import time
from collections.abc import Mapping

from service.api.thread_pools import NoAnswer, ThreadPool
from service.store.api_keys import USE_INTERVAL_S, ApiKey, KeyStore
from service.store.errors import StoreUnavailable

MIN_PAUSE_S = 0.25
"""Pause between two reads for ids that are unknown: a key that was just created works, and guesses cost nothing."""

logger = logging.getLogger(__name__)


class KeyRing:
    """All keys as they were at most `max_age_s` ago. Use it in the event loop.

    One read serves all requests that wait for it, so that a slow database gets no queue of reads. While the database
    cannot be read, every method raises NoAnswer or StoreUnavailable.
    """

    def __init__(self, store: KeyStore, pool: ThreadPool, max_age_s: float) -> None:
        self._store, self._pool, self._max_age_s = store, pool, max_age_s
        self._keys: Mapping[str, ApiKey] = {}
        self._read_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None
        self._uses: dict[str, float] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def keys(self) -> Mapping[str, ApiKey]:
        """Return all keys by id, also those that were revoked or have expired."""
        return await self._known_since(time.monotonic() - self._max_age_s)

    def last_known(self) -> Mapping[str, ApiKey] | None:
        """Return all keys as they were last read, however long ago, and read them again in the background.

        None if they have never been read.
        """
        if time.monotonic() - self._read_at <= self._max_age_s:
            return self._keys
        self._start_reading().add_done_callback(_ignore_outage)
        return self._keys if self._read_at > -float("inf") else None

    async def find(self, key_id: str) -> ApiKey | None:
        """Return a key; None if it does not exist at the time of the call."""
        asked_at = time.monotonic()
        if (key := (await self.keys()).get(key_id)) is not None:
            return key
        await asyncio.sleep(self._read_at + MIN_PAUSE_S - time.monotonic())
        return (await self._known_since(asked_at)).get(key_id)

    def record_use(self, key: ApiKey) -> None:
        """Record that a key is used now, later and at most once a minute."""
        now = time.time()
        if now - self._uses.get(key.id, key.last_used_at or 0.0) >= USE_INTERVAL_S:
            self._uses[key.id] = now
            task = asyncio.create_task(self._write_use(key.id, now))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _known_since(self, since: float) -> Mapping[str, ApiKey]:
        """Return keys that were read after a time of the monotonic clock."""
        while self._read_at < since:
            # A client that disconnects must not cancel the read for the others.
            await asyncio.shield(self._start_reading())
        return self._keys

    def _start_reading(self) -> "asyncio.Task[None]":
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _read(self) -> None:
        started_at = time.monotonic()
        found = await self._pool.run(self._store.all)
        self._keys, self._read_at = {key.id: key for key in found}, started_at

    async def _write_use(self, key_id: str, used_at: float) -> None:
        try:
            await self._pool.run(self._store.record_use, key_id, used_at)
        except (NoAnswer, StoreUnavailable) as error:
            logger.warning("the last use of the key %s was not recorded: %s", key_id, error)


def _ignore_outage(reading: "asyncio.Task[None]") -> None:
    """Take the error of a read that nobody waits for; the next one may succeed."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        logger.info("the API keys were not read: %s", error)
