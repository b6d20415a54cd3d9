"""The lease that allows one supervisor at a time to run the jobs of a database.

A supervisor takes the lease, renews it with each heartbeat, and releases it when it ends. Another one may take it when
the heartbeats have stopped, which it measures with its own clock: the number of the beat, not its time, is compared.
Everything that a supervisor does requires that it still holds the lease.
"""

import os
import time

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.states import ACTIVE
from service.store.database import reading, writing
from service.store.errors import Superseded
from service.store.records import SupervisorLease
from service.store.tables import attempts, jobs, supervisor_leases

_NAME = "jobs"
_COLUMNS = [column for column in supervisor_leases.columns if column.name != "name"]
_ROW = supervisor_leases.c.name == _NAME


def find_lease(connection: Connection) -> SupervisorLease | None:
    """Return the lease; None if no supervisor has ever taken it."""
    row = connection.execute(select(*_COLUMNS).where(_ROW)).one_or_none()
    return None if row is None else SupervisorLease(**row._asdict())


def require_lease(connection: Connection, owner: str) -> None:
    """Raise Superseded if another supervisor has the lease; nobody can take it until the transaction ends."""
    # A database without a lease belongs to a single writer, such as a test or a repair.
    query = select(supervisor_leases.c.owner).where(_ROW).with_for_update(read=True)
    row = connection.execute(query).one_or_none()
    if row is not None and row.owner != owner:
        raise Superseded


def places_of_attempts(connection: Connection) -> set[tuple[str, str]]:
    """Return the hosts of the attempts of active jobs, with the roots of their run folders."""
    query = (
        select(attempts.c.host, attempts.c.root)
        .distinct()
        .join_from(jobs, attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.number == jobs.c.attempt))
        .where(jobs.c.status.in_(sorted(ACTIVE)), attempts.c.host.is_not(None), attempts.c.root.is_not(None))
    )
    return {(row.host, row.root) for row in connection.execute(query)}


class LeaseStore:
    """Takes, renews and releases the lease for one supervisor, `owner`. Raises StoreUnavailable like the other stores.

    Args:
        host: name of the host on which this supervisor starts attempts.
    """

    def __init__(self, engine: Engine, owner: str, host: str) -> None:
        self._engine, self._owner, self._host = engine, owner, host

    def find(self) -> SupervisorLease | None:
        """Return the lease as it is now; None if no supervisor has ever taken it."""
        with reading(self._engine) as connection:
            return find_lease(connection)

    def take(self, seen: SupervisorLease | None, locked_root: str | None) -> bool:
        """Take the lease if it is still as the caller has seen it; return False if it has changed.

        Args:
            seen: the lease, or None if there was none.
        """
        values = self._values(locked_root)
        try:
            with writing(self._engine) as connection:
                if seen is None:
                    connection.execute(insert(supervisor_leases).values(name=_NAME, beat=1, **values))
                    return True
                same = (
                    supervisor_leases.c.owner.is_not_distinct_from(seen.owner),
                    supervisor_leases.c.beat == seen.beat,
                )
                query = update(supervisor_leases).where(_ROW, *same).values(beat=seen.beat + 1, **values)
                return connection.execute(query).rowcount == 1
        except IntegrityError:
            return False

    def renew(self, locked_root: str | None) -> None:
        """Record a heartbeat; raises Superseded if another supervisor has the lease."""
        query = update(supervisor_leases).where(_ROW, supervisor_leases.c.owner == self._owner)
        with writing(self._engine) as connection:
            values = self._values(locked_root)
            if connection.execute(query.values(beat=supervisor_leases.c.beat + 1, **values)).rowcount != 1:
                raise Superseded

    def release(self) -> None:
        """End the lease, if it is still this supervisor's."""
        query = update(supervisor_leases).where(_ROW, supervisor_leases.c.owner == self._owner)
        with writing(self._engine) as connection:
            connection.execute(query.values(owner=None, locked_root=None, beat=supervisor_leases.c.beat + 1))

    def places_of_attempts(self) -> set[tuple[str, str]]:
        """Return the hosts of the attempts of active jobs, with the roots of their run folders."""
        with reading(self._engine) as connection:
            return places_of_attempts(connection)

    def _values(self, locked_root: str | None) -> dict[str, object]:
        return {
            "owner": self._owner,
            "beat_at": time.time(),
            "host": self._host,
            "pid": os.getpid(),
            "locked_root": locked_root,
        }
