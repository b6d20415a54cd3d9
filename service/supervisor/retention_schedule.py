"""Runs of the retention rules in a process of their own, so that a slow disk or MLflow delays no round."""

import logging
import os
import subprocess
import sys
import time

from service.child_process import child_environment, python_command
from service.settings import Settings

log = logging.getLogger(__name__)

FIRST_SHARE = 0.1
"""The first run starts after this share of the interval: a service that is often restarted cleans up too."""


class RetentionSchedule:
    """Starts a run every `gc_every_s`, one at a time; the supervisor that holds the lease calls `tick`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._due = time.monotonic() + FIRST_SHARE * settings.gc_every_s
        self._deadline = 0.0

    def tick(self) -> None:
        """Start a run if it is due, and stop one that takes too long; without waiting."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None and now > self._deadline:
                log.error("gc: stopped after %.0f s; the next run continues", self._settings.gc_timeout_s)
                self._process.kill()
                self._deadline = now + self._settings.gc_timeout_s
            if code is None:
                return
            if code not in (0, 1):  # 1: it has reported problems
                log.error("gc: ended with code %d", code)
            self._process = None
        if now < self._due:
            return
        self._due, self._deadline = now + self._settings.gc_every_s, now + self._settings.gc_timeout_s
        # It exits with this process, which may have lost its lease.
        self._process = subprocess.Popen(
            python_command("service.retention.process"),
            env=child_environment({**os.environ, **self._settings.environment()}),
            stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno(),
        )  # fmt: skip
