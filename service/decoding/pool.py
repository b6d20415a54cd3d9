"""A pool of decoding processes that no image can block. Torch-free.

Few images are decoded at once. One that takes longer than a second leaves its place to others and continues beside them
with a lower priority, until its processor time is used up. Processes are started when they are needed and used again.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.base.errors import DataError, FieldProblem
from pipelines.data.source_images import NewImageReader
from service.decoding.messages import DecodingOrder
from service.decoding.worker import DecodingLimits, DecodingWorker, WorkerKilled

SLOW_AFTER_S = 1.0
_MAX_START_S = 60.0
_CLOCK_FACTOR = 10
"""An image may take this many times its processor time by the clock, for example beside a training."""
_MAX_TRIES = 3

Pixels = tuple[np.ndarray, list[str]]

logger = logging.getLogger(__name__)


class DecodingPool:
    """Decodes images in other processes. Use it in one event loop, in the main thread.

    Args:
        limits: of each process.
        num_processes: number of images that are decoded at once.
        num_slow: number of further images that may take longer than `SLOW_AFTER_S`.
    """

    def __init__(self, limits: DecodingLimits, num_processes: int, num_slow: int) -> None:
        self._limits = limits
        self._places = asyncio.Semaphore(num_processes)
        self._num_slow, self._max_slow = 0, num_slow
        self._idle: list[DecodingWorker] = []
        self._tasks: set[asyncio.Task[Pixels]] = set()
        self._endings: set[asyncio.Task[None]] = set()

    async def decode(
        self, image: bytes, reader: NewImageReader, max_pixels: int, max_side: int | None = None
    ) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of an image, and warnings about its file.

        With `max_side`, a larger image is reduced to this width and height, with its aspect kept.

        If the caller is cancelled, the process is killed, unless it is done within `SLOW_AFTER_S`.

        Raises:
            DataError: the image cannot be read, or needs more time or memory than allowed.
        """
        decoding = _Decoding(DecodingOrder(reader, max_pixels, max_side), image)
        task = asyncio.ensure_future(self._decode(decoding))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if decoding.has_place:
                decoding.is_abandoned.set()
            else:
                task.cancel()
            raise

    async def close(self) -> None:
        """Kill all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._idle:
            self._end(self._idle.pop())
        await asyncio.gather(*self._endings)

    async def _decode(self, decoding: "_Decoding") -> Pixels:
        for _ in range(_MAX_TRIES - 1):
            try:
                return await self._try(decoding)
            except WorkerKilled as error:
                logger.warning("%s; trying again", error)
        return await self._try(decoding)

    async def _try(self, decoding: "_Decoding") -> Pixels:
        await self._places.acquire()
        decoding.has_place = True
        is_slow = False
        try:
            worker = self._take()
        except BaseException:
            self._places.release()
            raise
        gone = asyncio.ensure_future(decoding.is_abandoned.wait())
        work: list[asyncio.Task[Any]] = []
        try:
            work.append(asyncio.ensure_future(worker.start()))
            if not await _is_done(work[-1], gone, _MAX_START_S):
                raise WorkerKilled(f"the decoding process {worker.pid} does not start")
            work[-1].result()
            work.append(asyncio.ensure_future(worker.decode(decoding.order, decoding.image)))
            await asyncio.wait({work[-1]}, timeout=SLOW_AFTER_S)
            if not work[-1].done():
                is_slow = self._num_slow < self._max_slow
                if is_slow:
                    worker.lower_priority()
                    self._num_slow += 1
                    self._places.release()
                if not await _is_done(work[-1], gone, self._limits.timeout_s * _CLOCK_FACTOR):
                    raise DataError(FieldProblem("image", self._limits.timeout_text))
            found: Pixels = work[-1].result()
            return found
        finally:
            gone.cancel()
            if is_slow:
                self._num_slow -= 1
            else:
                self._places.release()
            if worker.is_reusable and not is_slow and all(task.done() for task in work):
                self._idle.append(worker)
            else:
                self._end(worker, work)

    def _take(self) -> DecodingWorker:
        """Return a process that waits for an image, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            self._end(worker)
        return DecodingWorker(self._limits)

    def _end(self, worker: DecodingWorker, work: Sequence[asyncio.Task[Any]] = ()) -> None:
        """Kill a process, and forget what it does."""
        ending = asyncio.ensure_future(_end(worker, work))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _forget(self, task: asyncio.Task[Pixels]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Nobody waits for the result of an abandoned image.
            task.exception()


class _Decoding:
    """An image that is being decoded."""

    def __init__(self, order: DecodingOrder, image: bytes) -> None:
        self.order, self.image = order, image
        self.has_place = False
        self.is_abandoned = asyncio.Event()


async def _is_done(task: asyncio.Task[Any], gone: asyncio.Task[Any], timeout_s: float) -> bool:
    """Wait for a task, but not after its caller is gone; return whether it is done."""
    await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return task.done()


async def _end(worker: DecodingWorker, work: Sequence[asyncio.Task[Any]]) -> None:
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    await worker.end()
