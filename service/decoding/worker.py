"""One decoding process, as the process that uses it sees it. Torch-free."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.signals import signal_name
from service.child_process import child_environment, python_command
from service.decoding.messages import ANSWER_HEAD, MAX_ANSWER_BYTES, REQUEST_HEAD, DecodingAnswer, DecodingOrder

_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
"""The environment of the process; it needs no secrets."""
_LOW_PRIORITY = 10
_SMALL_BYTES = 8 << 20
"""Pixels up to this size are copied in the event loop, in about 2 ms."""


@dataclass(frozen=True)
class DecodingLimits:
    """Limits of a decoding process: the processor time for an image, and the memory."""

    timeout_s: float
    memory_bytes: int

    @property
    def timeout_text(self) -> str:
        return (
            f"takes more than {self.timeout_s:g} s to decode, which is the limit (PYRAMIDION_DECODE_TIMEOUT_S); write "
            "the file again, for example as a baseline JPEG"
        )


class WorkerKilled(Exception):
    """The process was killed from outside while it decoded an image; another process can decode it."""


class DecodingWorker:
    """A decoding process. Start it in the main thread: it dies with the thread that starts it.

    Attributes:
        is_reusable: whether the process waits for its next image.
    """

    def __init__(self, limits: DecodingLimits) -> None:
        self._limits = limits
        self.is_reusable = True
        self._has_started = False
        self._pixels = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Reading a file that was cut meanwhile must not be possible, whatever the process does.
        fcntl.fcntl(self._pixels, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                python_command(
                    "service.decoding.process",
                    *("--socket", str(theirs.fileno()), "--pixels", str(self._pixels)),
                    *("--memory-bytes", str(limits.memory_bytes), "--timeout-s", str(limits.timeout_s)),
                ),
                env={
                    **child_environment({name: os.environ[name] for name in _VARIABLES if name in os.environ}),
                    # Each thread of the library reserves memory, which counts toward the limit.
                    "OPENBLAS_NUM_THREADS": "1",
                },
                pass_fds=[theirs.fileno(), self._pixels],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        self._socket.setblocking(False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def start(self) -> None:
        """Wait until the process can receive images; raises WorkerKilled if it exits instead."""
        if not self._has_started:
            await self._receive(1)
            self._has_started = True

    async def decode(self, order: DecodingOrder, image: bytes) -> tuple[np.ndarray, list[str]]:
        """Return the pixels (H, W, 3) uint8 of an image, and warnings about its file.

        Raises:
            DataError: the image cannot be read, or needs more time or memory than allowed.
            WorkerKilled: another process killed this one.
        """
        self.is_reusable = False
        data = order.to_bytes()
        try:
            await asyncio.get_running_loop().sock_sendall(
                self._socket, b"".join((REQUEST_HEAD.pack(len(data), len(image)), data, image))
            )
        except OSError:
            await self._raise_end()
        answer = await self._receive_answer()
        self.is_reusable = not answer.is_last
        answer.raise_error()
        shape = (answer.height, answer.width, 3)
        if np.prod(shape) <= _SMALL_BYTES:
            return self._read_pixels(shape), answer.warnings
        self.is_reusable = False
        pixels = await asyncio.to_thread(self._read_pixels, shape)
        self.is_reusable = not answer.is_last
        return pixels, answer.warnings

    def lower_priority(self) -> None:
        """Let other processes come first; this process is not used for another image."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.pid, _LOW_PRIORITY)

    async def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self._process.kill()
        self._socket.close()
        await asyncio.to_thread(self._process.wait)
        os.close(self._pixels)

    def _read_pixels(self, shape: tuple[int, int, int]) -> np.ndarray:
        pixels = np.empty(shape, dtype=np.uint8)
        view = pixels.data.cast("B")
        position = 0
        while position < len(view):
            num_read = os.preadv(self._pixels, [view[position:]], position)
            if num_read == 0:
                raise RuntimeError(f"the decoding process {self.pid} sent fewer pixels than it promised")
            position += num_read
        return pixels

    async def _receive_answer(self) -> DecodingAnswer:
        received = await self._receive(ANSWER_HEAD.size)
        (size,) = ANSWER_HEAD.unpack_from(received)
        if size > MAX_ANSWER_BYTES:
            raise RuntimeError(f"the decoding process {self.pid} sent an answer of {size} bytes")
        while len(received) < ANSWER_HEAD.size + size:
            received += await self._receive(1)
        return DecodingAnswer.from_bytes(received[ANSWER_HEAD.size :])

    async def _receive(self, min_bytes: int) -> bytes:
        """Return what the process has sent, at least `min_bytes`; nothing follows an answer before the next request."""
        received = b""
        while len(received) < min_bytes:
            try:
                chunk = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
            except OSError:
                chunk = b""
            if not chunk:
                await self._raise_end()
            received += chunk
        return received

    async def _raise_end(self) -> None:
        """Raise the reason why the process has ended."""
        code = await asyncio.to_thread(self._process.wait)
        if code == -signal.SIGXCPU:
            raise DataError(FieldProblem("image", self._limits.timeout_text))
        if code in (-signal.SIGKILL, -signal.SIGTERM) or not self._has_started:
            raise WorkerKilled(f"the decoding process {self.pid} ended with code {code}")
        how = signal_name(-code) if code < 0 else f"code {code}"
        raise DataError(FieldProblem("image", f"cannot be decoded (the decoder crashed, {how}); write the file again"))
