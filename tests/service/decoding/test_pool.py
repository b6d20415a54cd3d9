"""Images that are decoded in real processes."""

import asyncio
import io
import os
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.decoding.opening import TooManyPixels, UnknownFormat
from pipelines.data.source_images import NewImageReader
from pipelines.spec.job import JobSpec
from service.decoding.messages import DecodingAnswer
from service.decoding.pool import DecodingPool
from service.decoding.worker import DecodingLimits
from tests.service.conftest import jpeg
from tests.service.decoding.slow_jpeg import slow_jpeg
from tests.service.waiting import wait_until

MAX_PIXELS = 50_000_000
SLOW = slow_jpeg(1000, 20_000)
"""12 s of processor time in 245 kB."""


_OTHERS: set[int] = set()
"""Processes of applications that other tests of this session share."""


@pytest.fixture(autouse=True)
def _leave_out_other_processes() -> None:
    _OTHERS.clear()
    _OTHERS.update(process.pid for process in processes())


@pytest.fixture(scope="module")
def reader(small: dict[str, Any]) -> NewImageReader:
    return NewImageReader(JobSpec.model_validate(small).data)


def with_pool(
    work: Callable[[DecodingPool], Coroutine[Any, Any, None]], timeout_s: float = 30, memory_bytes: int = 1 << 30
) -> None:
    """Run `work` with a pool of one process."""

    async def run() -> None:
        pool = DecodingPool(DecodingLimits(timeout_s, memory_bytes), 1, 1)
        try:
            await work(pool)
        finally:
            await pool.close()
        assert processes() == []

    asyncio.run(run())


def processes() -> list[psutil.Process]:
    """Return the decoding processes that a test has started and that have not ended."""
    found = []
    for child in psutil.Process().children():
        try:
            if child.pid in _OTHERS:
                continue
            if child.status() != psutil.STATUS_ZOMBIE and "service.decoding.process" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


async def has_processes(number: int) -> None:
    await asyncio.to_thread(wait_until, lambda: len(processes()) == number, f"{number} processes")


def test_images_and_errors_equal_those_of_the_reader(reader: NewImageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    image = jpeg(40, 60)
    gray = io.BytesIO()
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(gray, "PNG")
    errors: tuple[tuple[bytes, int, type[DataError]], ...] = (
        (b"a text", MAX_PIXELS, UnknownFormat), (image, 1000, TooManyPixels), (b"\xff\xd8\xff\xe0", 1000, DataError)
    )  # fmt: skip

    async def compare(pool: DecodingPool) -> None:
        for data in (image, image[:-20], gray.getvalue(), jpeg(2000, 2000)):
            pixels, warnings = await pool.decode(data, reader, MAX_PIXELS)
            expected, expected_warnings = reader.read_pixels(io.BytesIO(data), MAX_PIXELS)
            assert (pixels == expected).all()
            assert warnings == expected_warnings
        for data, max_pixels, kind in errors:
            with pytest.raises(kind) as expected_error:
                reader.read_pixels(io.BytesIO(data), max_pixels)
            with pytest.raises(DataError) as raised:
                await pool.decode(data, reader, max_pixels)
            assert type(raised.value) is kind
            assert str(raised.value) == str(expected_error.value)
        (process,) = processes()
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ()

    with_pool(compare)


def test_slow_image_ends_at_its_deadline_and_delays_no_other(reader: NewImageReader) -> None:
    async def decode(pool: DecodingPool) -> None:
        slow = asyncio.create_task(pool.decode(SLOW, reader, MAX_PIXELS))
        await asyncio.sleep(0)
        pixels, _ = await pool.decode(jpeg(48, 64), reader, MAX_PIXELS)
        assert pixels.shape == (48, 64, 3)
        assert not slow.done()
        with pytest.raises(DataError, match=r"takes more than 2 s to decode.*PYRAMIDION_DECODE_TIMEOUT_S"):
            await slow
        await has_processes(1)

    with_pool(decode, timeout_s=2)


def test_process_of_an_abandoned_image_is_killed(reader: NewImageReader) -> None:
    async def leave(pool: DecodingPool) -> None:
        slow = asyncio.create_task(pool.decode(SLOW, reader, MAX_PIXELS))
        waiting = asyncio.create_task(pool.decode(SLOW, reader, MAX_PIXELS))
        await has_processes(1)
        for task in (waiting, slow):
            task.cancel()
        await asyncio.gather(slow, waiting, return_exceptions=True)
        await has_processes(0)
        pixels, _ = await pool.decode(jpeg(48, 64), reader, MAX_PIXELS)
        assert pixels.shape == (48, 64, 3)

    with_pool(leave)


def test_process_that_is_killed_is_replaced(reader: NewImageReader) -> None:
    image = slow_jpeg(1000, 300)

    async def kill(pool: DecodingPool) -> None:
        decoding = asyncio.create_task(pool.decode(image, reader, MAX_PIXELS))
        await has_processes(1)
        processes()[0].kill()
        assert (await decoding)[0].shape == (1000, 1000, 3)
        await pool.decode(jpeg(48, 64), reader, MAX_PIXELS)
        await asyncio.to_thread(_kill_idle, processes()[0])
        assert (await pool.decode(jpeg(48, 64), reader, MAX_PIXELS))[0].shape == (48, 64, 3)

    def _kill_idle(process: psutil.Process) -> None:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    with_pool(kill)


def blank_png(side: int) -> bytes:
    """Return a white PNG of one bit per pixel, of a few kB."""
    file = io.BytesIO()
    Image.new("1", (side, side), 1).save(file, "PNG")
    return file.getvalue()


def test_memory_of_a_process_is_limited_and_that_of_a_large_image_returned(reader: NewImageReader) -> None:
    image = blank_png(6000)

    async def decode(pool: DecodingPool) -> None:
        pixels, _ = await pool.decode(image, reader, MAX_PIXELS)
        assert pixels.shape == (6000, 6000, 3)
        await has_processes(0)

    async def decode_with_little_memory(pool: DecodingPool) -> None:
        with pytest.raises(DataError, match="needs more memory than is available"):
            await pool.decode(image, reader, MAX_PIXELS)
        assert (await pool.decode(jpeg(48, 64), reader, MAX_PIXELS))[0].shape == (48, 64, 3)

    with_pool(decode)
    with_pool(decode_with_little_memory, memory_bytes=256 << 20)


@pytest.mark.parametrize(
    "data",
    [b"[]", b"{}", b"\xff", zlib.compress(b""), DecodingAnswer(0, 5).to_bytes(), b'{"height": 1, "width": 1}'],
)
def test_answer_of_a_process_that_misbehaves_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        DecodingAnswer.from_bytes(data)
