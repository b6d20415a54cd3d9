"""`python -m service.decoding.process`: decode the images that arrive at a socket, one after the other. Torch-free.

The process has limits of its own, which the kernel enforces: for its memory, and for the processor time of each image.
It has no secrets in its environment, and ends with the process that started it.
"""

import argparse
import io
import math
import os
import resource
import socket
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipelines.base.errors import DataError
from service.child_process import die_with_parent
from service.decoding.messages import ANSWER_HEAD, READY, REQUEST_HEAD, DecodingAnswer, DecodingOrder

_MAX_KEPT_BYTES = 256 << 20
"""A process that has used more memory than this ends after its image: the allocator would keep most of it."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True, help="number of the inherited socket")
    parser.add_argument("--pixels", type=int, required=True, help="number of the inherited file for pixels")
    parser.add_argument("--memory-bytes", type=int, required=True, help="maximum size of this process")
    parser.add_argument("--timeout-s", type=float, required=True, help="maximum processor time for an image")
    options = parser.parse_args()
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (options.memory_bytes, options.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=options.socket) as connection, connection.makefile("rwb") as stream:
        stream.write(READY)
        stream.flush()
        while head := stream.read(REQUEST_HEAD.size):
            order_size, image_size = REQUEST_HEAD.unpack(head)
            order, image = DecodingOrder.from_bytes(stream.read(order_size)), stream.read(image_size)
            _limit_processor_time(options.timeout_s)
            answer = _decode(order, io.BytesIO(image), options.pixels)
            data = answer.to_bytes()
            stream.write(ANSWER_HEAD.pack(len(data)) + data)
            stream.flush()
            if answer.is_last:
                return


def _decode(order: DecodingOrder, image: BinaryIO, pixels_file: int) -> DecodingAnswer:
    try:
        pixels, warnings = order.reader.read_pixels(image, order.max_pixels)
        if order.max_side is not None and max(pixels.shape) > order.max_side:
            pixels = _reduced(pixels, order.max_side)
        os.lseek(pixels_file, 0, os.SEEK_SET)
        view = pixels.data.cast("B")
        while len(view):
            view = view[os.write(pixels_file, view) :]
    except DataError as error:
        return DecodingAnswer.of_error(error, is_last=_is_large())
    height, width = pixels.shape[:2]
    return DecodingAnswer(height, width, warnings, is_last=_is_large())


def _reduced(pixels: np.ndarray, max_side: int) -> np.ndarray:
    """Return pixels of at most `max_side` rows and columns."""
    image = Image.fromarray(pixels)
    image.thumbnail((max_side, max_side), reducing_gap=2.0)
    return np.array(image)


def _limit_processor_time(timeout_s: float) -> None:
    """Let the kernel kill this process when the next image has taken this time, rounded up to a second."""
    end_s = math.ceil(time.process_time() + timeout_s)
    resource.setrlimit(resource.RLIMIT_CPU, (end_s, resource.RLIM_INFINITY))


def _is_large() -> bool:
    """Return whether this process has used much memory. The peak of `getrusage` is at least that of the parent."""
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) << 10 > _MAX_KEPT_BYTES


if __name__ == "__main__":
    main()
