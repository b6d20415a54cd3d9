"""The lease of this process, and the wait for it: at most one supervisor runs the jobs of a database at any time.

The holder renews the lease in every round. Another supervisor takes it when its beat has not changed for `lease_s`,
measured by its own clock. The holder stops acting earlier: `lease_s` after the start of its last renewal it may do
nothing before it has renewed the lease, and a process that it starts after that moment ends at once. So a supervisor
that was stopped in between, at any instruction, does no harm when it continues.

Supervisors of one root find out sooner that the holder has died, by the lock file of the root.
"""

import logging
import time
from pathlib import Path

from service.store.records import SupervisorLease
from service.store.supervisor_lease import LeaseStore

RENEWALS = 5
"""Number of renewals in the duration of a lease."""

log = logging.getLogger(__name__)


class Lease:
    """The lease of this supervisor.

    Args:
        store: takes and renews it.
        root: the root of this service.
        lease_s: duration of a lease without renewals.
        is_bound_to_host: whether only processes on the host of an attempt can observe it.
    """

    def __init__(self, store: LeaseStore, host: str, root: Path, lease_s: float, *, is_bound_to_host: bool) -> None:
        self._store, self._host, self._root, self._lease_s = store, host, str(root), lease_s
        self._is_bound_to_host = is_bound_to_host
        self._seen: SupervisorLease | None = None
        self._seen_at = 0.0
        self._renew_at = 0.0
        self.has_lock = False
        self.valid_until = 0.0

    def try_to_take(self) -> str | None:
        """Take the lease if its holder has ended; return None, or the reason why it must wait.

        Raises:
            StoreUnavailable: the database cannot be used at the moment.
        """
        now = time.monotonic()
        found = self._store.find()
        if found is None or self._seen is None or (found.owner, found.beat) != (self._seen.owner, self._seen.beat):
            self._seen, self._seen_at = found, now
        if not self._is_over(found, now):
            if found is None:
                return f"another supervisor holds the lock file in {self._root}"
            return f"another supervisor runs the jobs: process {found.pid} on host {found.host}"
        if reason := self._find_unreachable_attempts():
            return reason
        if not self._store.take(found, self._locked_root):
            return "another supervisor has just taken over"
        self._extend(now)
        return None

    def _find_unreachable_attempts(self) -> str | None:
        """Return a sentence about active attempts that this supervisor would take for dead though they may be alive."""
        places = self._store.places_of_attempts()
        if roots := sorted({root for _, root in places} - {self._root}):
            return (
                f"attempts write to the root {roots[0]}, which differs from this one, {self._root}; all services of a "
                "database need the same root"
            )
        hosts = sorted({host for host, _ in places} - {self._host})
        if self._is_bound_to_host and hosts:
            return (
                f"attempts were started on host {hosts[0]}, where only a supervisor on that host can see whether they "
                "are alive; start one there, or, once that host is certainly off, start this one with "
                f"PYRAMIDION_SUPERVISOR_HOST={hosts[0]}"
            )
        return None

    def renew_if_due(self) -> None:
        """Renew the lease a few times in its duration; raises Superseded if another supervisor has it."""
        if time.monotonic() >= self._renew_at:
            self._renew()

    def require(self) -> float:
        """Return the moment until which this supervisor has the lease for certain, at least half of its duration away.

        It is a time of the monotonic clock, which all processes of a host share.

        Raises:
            Superseded: another supervisor has it.
            StoreUnavailable: it had to be renewed, but the database cannot be used.
        """
        if time.monotonic() > self.valid_until - self._lease_s / 2:
            self._renew()
        return self.valid_until

    def release(self) -> None:
        """Let another supervisor take over at once."""
        self._store.release()

    def _renew(self) -> None:
        now = time.monotonic()
        self._store.renew(self._locked_root)
        self._extend(now)

    def _extend(self, now: float) -> None:
        # From before the renewal: another supervisor cannot have seen it earlier.
        self.valid_until = now + self._lease_s
        self._renew_at = now + self._lease_s / RENEWALS

    @property
    def _locked_root(self) -> str | None:
        return self._root if self.has_lock else None

    def _is_over(self, found: SupervisorLease | None, now: float) -> bool:
        """Return True if the lease has ended; one that never existed may be that of an earlier version."""
        if found is None:
            return self.has_lock
        is_dead = found.owner is None or (found.host, found.locked_root) == (self._host, self._root)
        return (self.has_lock and is_dead) or now - self._seen_at >= self._lease_s
