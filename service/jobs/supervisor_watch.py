"""Detection of the active supervisor by the beats of its lease, and sooner by the lock file of its root."""

import threading
import time

from service.jobs.supervisor_lock import supervisor_pid
from service.settings import Settings
from service.store.jobs import JobStore
from service.store.records import SupervisorLease


class SupervisorWatch:
    """Knows whether a supervisor is active, from the point of view of one process; for use by several threads.

    The heartbeats are timed by the clock of this process, since clocks of two hosts may differ. So a supervisor that
    has died before this process was started counts as active until its lease has expired once more.
    """

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._changing = threading.Lock()
        self._beat: int | None = None
        self._changed_at = 0.0

    def active(self) -> SupervisorLease | None:
        """Return the lease of the active supervisor; None if no supervisor is active. Raises StoreUnavailable."""
        lease = self._store.supervisor_lease()
        if lease is None or lease.owner is None:
            return None
        if self._is_locked_here(lease) and supervisor_pid(self._settings.root) is None:
            return None
        return lease if self._age_s(lease) < self._settings.lease_s else None

    def _is_locked_here(self, lease: SupervisorLease) -> bool:
        here = (self._settings.name_of_host, str(self._settings.root))
        return (lease.host, lease.locked_root) == here

    def _age_s(self, lease: SupervisorLease) -> float:
        """Return the time since this process saw the beat change."""
        with self._changing:
            if lease.beat != self._beat:
                self._beat, self._changed_at = lease.beat, time.monotonic()
            return time.monotonic() - self._changed_at
