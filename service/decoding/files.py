"""Decode the files of many images in a pool of processes, ahead of the caller. Torch-free."""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

from pipelines.base.errors import DataError, FieldProblem
from pipelines.data.images import MAX_PIXELS, file_bytes
from pipelines.data.source_images import NewImageReader
from service.decoding.pool import DecodingPool, Pixels
from service.decoding.worker import DecodingLimits, WorkerKilled

T = TypeVar("T")

KILLED = "cannot be decoded (the process that decodes it was killed each time, perhaps for lack of memory)"


class FileDecoder:
    """Decodes files in order; `num_processes` images are decoded while the caller works on an earlier one.

    The pool runs in a thread of its own, so that a signal interrupts the caller anywhere. The kernel kills the
    processes when this thread ends, at the latest with this process.
    """

    def __init__(self, limits: DecodingLimits, num_processes: int) -> None:
        self._num_processes = num_processes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="decoding", daemon=True)
        self._thread.start()
        self._pool = self._in_loop(_pool(limits, num_processes)).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in_loop(self._pool.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def decode(self, files: Iterable[Path], reader: NewImageReader) -> Iterator[Pixels | DataError]:
        """Yield the pixels of each file and warnings about it, or the error of one that cannot be read."""
        ahead: deque[Future[Pixels]] = deque()
        try:
            for file in files:
                ahead.append(self._in_loop(self._decode(file, reader)))
                if len(ahead) > self._num_processes:
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        finally:
            for waiting in ahead:
                waiting.cancel()

    async def _decode(self, file: Path, reader: NewImageReader) -> Pixels:
        return await self._pool.decode(await asyncio.to_thread(file_bytes, file), reader, MAX_PIXELS)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _pool(limits: DecodingLimits, num_processes: int) -> DecodingPool:
    return DecodingPool(limits, num_processes, num_slow=num_processes)


def _result(decoding: Future[Pixels]) -> Pixels | DataError:
    try:
        return decoding.result()
    except WorkerKilled:
        return DataError(FieldProblem("image", KILLED))
    except DataError as error:
        return error
