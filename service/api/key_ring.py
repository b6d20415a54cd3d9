"""The API keys as this process knows them: read from the database at most every few seconds, not for each request."""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from service.settings import Settings
from service.store.api_keys import USE_INTERVAL_S, ApiKey, KeyStore
from service.store.errors import StoreUnavailable

MIN_PAUSE_S = 0.25
"""Pause between two reads for ids that are unknown: a key that was just created works, and guesses cost nothing."""

logger = logging.getLogger(__name__)


class KeyRing:
    """All keys, at most `key_cache_s` old. Use it in the event loop.

    One read serves all requests that wait for it, so that a slow database gets no queue of reads.
    """

    def __init__(self, store: KeyStore, settings: Settings) -> None:
        self._store = store
        self._max_age_s, self._timeout_s = settings.key_cache_s, settings.key_check_s
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="keys")
        self._keys: Mapping[str, ApiKey] = {}
        self._read_at = -float("inf")
        self._reading: asyncio.Task[None] | None = None
        self._uses: dict[str, float] = {}

    async def keys(self) -> Mapping[str, ApiKey]:
        """Return all keys by id, also those that were revoked or have expired; raises StoreUnavailable."""
        return await self._known_since(time.monotonic() - self._max_age_s)

    async def find(self, key_id: str) -> ApiKey | None:
        """Return a key; None if it does not exist at the time of the call. Raises StoreUnavailable."""
        asked_at = time.monotonic()
        if (key := (await self.keys()).get(key_id)) is not None:
            return key
        await asyncio.sleep(self._read_at + MIN_PAUSE_S - time.monotonic())
        return (await self._known_since(asked_at)).get(key_id)

    def record_use(self, key: ApiKey) -> None:
        """Record that a key is used now, later and at most once a minute."""
        now = time.time()
        if now - self._uses.get(key.id, key.last_used_at or 0.0) < USE_INTERVAL_S:
            return
        self._uses[key.id] = now
        with suppress(RuntimeError):  # the server stops
            self._threads.submit(self._write_use, key.id, now)

    def close(self) -> None:
        """Stop reading."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _known_since(self, since: float) -> Mapping[str, ApiKey]:
        """Return keys that were read after a time of the monotonic clock."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._read_at < since:
                    if self._reading is None or self._reading.done():
                        self._reading = asyncio.create_task(self._read())
                    # A client that disconnects must not cancel the read for the others.
                    await asyncio.shield(self._reading)
        except TimeoutError:
            raise StoreUnavailable("the database did not return the API keys in time") from None
        return self._keys

    async def _read(self) -> None:
        started_at = time.monotonic()
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._store.all)
        self._keys, self._read_at = {key.id: key for key in found}, started_at

    def _write_use(self, key_id: str, used_at: float) -> None:
        try:
            self._store.record_use(key_id, used_at)
        except StoreUnavailable as error:
            logger.warning("the last use of the key %s was not recorded: %s", key_id, error)
