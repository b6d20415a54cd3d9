"""Pictures of evaluated images. Imports numpy, so the API imports this module with the first request for a picture."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.images import MAX_PIXELS, file_bytes
from pipelines.data.source_images import NewImageReader
from service.api.thread_pools import ThreadPool
from service.decoding.pool import DecodingPool
from service.decoding.worker import DecodingLimits, WorkerKilled
from service.rest.problems import Problem
from service.settings import Settings

NUM_DECODERS = 2
QUALITY = 85


class ResultPictures:
    """Reads images in the processes for untrusted files."""

    def __init__(self, settings: Settings) -> None:
        limits = DecodingLimits(settings.decode_timeout_s, settings.decode_memory_bytes)
        self._pool = DecodingPool(limits, NUM_DECODERS, num_slow=1)

    async def read(self, files: ThreadPool, path: Path, reader: NewImageReader, max_side: int) -> bytes:
        """Return an image as JPEG, at most `max_side` pixels wide and high.

        Raises:
            Problem: 404 if the file cannot be read, 503 if the process that decodes it was killed.
        """
        try:
            content = await files.run(file_bytes, path)
            pixels, _ = await self._pool.decode(content, reader, MAX_PIXELS, max_side)
        except DataError as error:
            raise Problem(404, "No picture", f"the file cannot be read: {error}") from error
        except WorkerKilled as error:
            detail = "the process that decodes the image was killed each time; try again later"
            raise Problem(503, "No picture", detail, headers={"Retry-After": "5"}) from error
        return await files.run(_jpeg, pixels)

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()


def _jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY)
    return content.getvalue()
