"""The log of the API process. A thread writes it: a reader of the log that stops must not stop requests. Torch-free."""

import logging
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

MAX_LINES = 10_000
"""Number of lines that wait for the thread; while it is reached, others are dropped."""
FLUSH_S = 1.0


class LogWriter(logging.Handler):
    """Passes formatted lines to a thread, and drops them when the thread cannot write."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.num_dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.num_dropped += 1

    def finish(self) -> None:
        """Wait a moment until everything is written."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=FLUSH_S)
            self._thread.join(FLUSH_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self.num_dropped = self.num_dropped, 0
            with suppress(OSError):  # nobody reads the log anymore
                if dropped:
                    self._stream.write(f"api: {dropped} log lines were dropped, because nobody read them\n")
                self._stream.write(line + "\n")
                self._stream.flush()


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.name == "service.requests" else f"api: {text}"


def start_log(*, has_requests: bool) -> LogWriter:
    """Make warnings, errors and, if wanted, requests appear on the standard error output."""
    writer = LogWriter(sys.stderr)
    writer.setFormatter(_Format("%(message)s"))
    logging.basicConfig(handlers=[writer], level=logging.WARNING)
    logging.getLogger("service.requests").setLevel(logging.INFO if has_requests else logging.WARNING)
    # The request log has reported these errors with the id of their request.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Exception in ASGI"))
    return writer
