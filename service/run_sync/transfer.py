"""The thread beside the supervisor that follows one attempt: it publishes the state from which it starts, and pulls."""

import logging
import threading
import time
from pathlib import Path

from service.executors.shim_contract import Order
from service.run_sync.commits import JobObjects
from service.run_sync.handover import Decision
from service.run_sync.mirror import HandoverMirror
from service.run_sync.pull import FolderPuller
from service.run_sync.starting import publish_start
from service.storage.base import StorageError

PULL_EVERY_S = 0.5
MAX_PAUSE_S = 5.0
"""Maximum pause while the storage does not answer."""
DELETE_EVERY_S = 60.0
"""Seconds between two searches for objects that are not needed any more."""

log = logging.getLogger(__name__)


class AttemptTransfer:
    """Follows one attempt until `stop`.

    Args:
        run_folder: of the service.
        objects: of the job.
        attempt: number of the attempt.
        mirror: of its handover; None if its folder reaches the node otherwise.

    Attributes:
        problem: why the storage, or the run folder, cannot be used at the moment; None if it can.
        is_published: whether the state from which the attempt starts is known to be stored.
        is_abandoned: whether the attempt will not start any more.
        ended_at: the time, by the monotonic clock, from which on the attempt has ended; None while it runs.
    """

    def __init__(
        self, run_folder: Path, objects: JobObjects, attempt: int, mirror: HandoverMirror | None = None
    ) -> None:
        self._run_folder, self._objects, self._attempt, self._mirror = run_folder, objects, attempt, mirror
        self._puller = FolderPuller(run_folder, objects, attempt)
        self.problem: str | None = None
        self.is_published = self.is_abandoned = False
        self.ended_at: float | None = None
        self._order: Order | None = None
        self._pulled_at = -1.0
        self._delete_at = time.monotonic() + DELETE_EVERY_S
        self._wakes, self._ends = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name=f"transfer of {objects.job_id}", daemon=True).start()

    @property
    def is_publishing(self) -> bool:
        return self._order is not None and not self.is_published and not self.is_abandoned

    @property
    def has_everything(self) -> bool:
        """True if everything that was stored before the end of the attempt has been pulled."""
        return self.ended_at is not None and self._pulled_at >= self.ended_at

    @property
    def is_withdrawn(self) -> bool:
        """True if no driver will run the attempt."""
        return self._mirror is not None and self._mirror.decision is Decision.WITHDRAWN

    def publish(self, order: Order) -> None:
        """Store the state from which the attempt starts, and its order for the mirror, as soon as possible."""
        self._order = order
        self._wakes.set()

    def withdraw(self) -> bool:
        """Let no driver run the attempt any more; return True once it is known whether one does.

        Then the inner executor knows it, too.
        """
        if self._mirror is None or self.is_abandoned:
            return True
        self._mirror.withdraws = True
        self._wakes.set()
        return self._mirror.is_decided

    def end(self) -> None:
        """Pull once more, because the attempt has ended."""
        if self.ended_at is None:
            self.ended_at = time.monotonic()
            self._wakes.set()

    def stop(self) -> None:
        """End the thread as soon as possible, without waiting for it."""
        self._ends.set()
        self._wakes.set()

    def _run(self) -> None:
        pause_s = PULL_EVERY_S
        while not self._ends.is_set():
            started = time.monotonic()
            try:
                self._step()
                if self.problem is not None:
                    log.info("job %s: its files arrive again", self._objects.job_id)
                self.problem, pause_s = None, PULL_EVERY_S
            except (StorageError, OSError) as error:
                if self.problem is None:
                    log.warning("job %s: its files do not arrive at the moment: %s", self._objects.job_id, error)
                self.problem, pause_s = str(error), min(MAX_PAUSE_S, 2 * pause_s)
            # Events wait for the whole round, so a slow storage makes the pause shorter.
            self._wakes.wait(max(pause_s - (time.monotonic() - started), pause_s / 5))
            self._wakes.clear()

    def _step(self) -> None:
        if self.is_publishing:
            publish_start(self._run_folder, self._objects, self._attempt)
            if self._mirror is not None:
                assert self._order is not None
                self._mirror.publish(self._order)
            self.is_published = True
            return
        started = time.monotonic()
        if self._mirror is None:
            self._puller.pull()
        else:
            self._mirror.follow()
            # An attempt that stores nothing new may have ended.
            if self._mirror.decision is Decision.TAKEN and not self._puller.pull():
                self._mirror.find_ending()
        self._pulled_at = started
        if started >= self._delete_at:
            self._delete_at = started + DELETE_EVERY_S
            self._puller.delete_unused()
