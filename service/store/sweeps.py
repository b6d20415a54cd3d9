"""Sweeps as the API reads and writes them: new ones, cancel requests and deletions."""

import secrets
import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.principal import LOCAL_USER, Principal
from service.states import SweepStatus
from service.store.audit import append_audit
from service.store.database import reading, writing
from service.store.errors import KeyReused, SweepEnded, SweepNotEnded, SweepNotFound
from service.store.sweep_records import NewSweep, Sweep, SweepTrial
from service.store.sweep_rows import SWEEP_COLUMNS, locked_sweep, sweep_of, trials_of, update_sweep
from service.store.tables import sweeps

_TRIES = 3


class SweepStore:
    """Every method raises StoreUnavailable while the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(
        self, new: NewSweep, key: str | None = None, body_hash: str | None = None, by: Principal = LOCAL_USER
    ) -> tuple[Sweep, bool]:
        """Store a sweep, which the supervisor starts; return it with True, or for a known `key` the earlier one with
        False.

        Raises:
            KeyReused: the key belongs to a request with another `body_hash`.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._submit(new, key, body_hash, by)
            except IntegrityError:  # the random id is taken, or the same key was sent at the same time
                continue
        return self._submit(new, key, body_hash, by)

    def _submit(self, new: NewSweep, key: str | None, body_hash: str | None, by: Principal) -> tuple[Sweep, bool]:
        values = {
            "id": secrets.token_hex(6),
            "name": new.name,
            "status": SweepStatus.RUNNING,
            "priority": new.priority,
            "cpus": new.cpus,
            "gpus": new.gpus,
            "timeout_s": new.timeout_s,
            "dataset_id": new.dataset_id,
            "created_at": round(time.time(), 6),
            "is_failing": False,
            "tenant": by.tenant,
            "key_id": by.key_id,
            "request_key": key,
            "request_hash": body_hash,
            "config": new.config,
        }
        with writing(self._engine) as connection:
            if key is not None and (earlier := _sweep_of_key(connection, by.tenant, key, body_hash)):
                return earlier, False
            sweep = sweep_of(connection.execute(insert(sweeps).values(values).returning(*SWEEP_COLUMNS)).one())
            append_audit(connection, by, "sweep.submit", sweep.id, tenant=sweep.tenant)
        return sweep, True

    def submitted(self, key: str, body_hash: str, by: Principal = LOCAL_USER) -> Sweep | None:
        """Return the sweep that a key has created; None if the key is new. Raises KeyReused."""
        with reading(self._engine) as connection:
            return _sweep_of_key(connection, by.tenant, key, body_hash)

    def get(self, sweep_id: str, tenant: str | None = None) -> Sweep:
        """Return a sweep; raises SweepNotFound, also for one of another tenant (None: any)."""
        with reading(self._engine) as connection:
            query = select(*SWEEP_COLUMNS).where(sweeps.c.id == sweep_id, *_owned_by(tenant))
            row = connection.execute(query).one_or_none()
        if row is None:
            raise SweepNotFound(sweep_id)
        return sweep_of(row)

    def config(self, sweep_id: str) -> dict[str, Any]:
        """Return the document of a sweep; raises SweepNotFound."""
        with reading(self._engine) as connection:
            row = connection.execute(select(sweeps.c.config).where(sweeps.c.id == sweep_id)).one_or_none()
        if row is None:
            raise SweepNotFound(sweep_id)
        return dict(row.config)

    def trials(self, sweep_id: str) -> list[SweepTrial]:
        """Return the trials of a sweep in their order."""
        with reading(self._engine) as connection:
            return trials_of(connection, sweep_id)

    def page(self, *, before_number: int | None = None, limit: int = 50, tenant: str | None = None) -> list[Sweep]:
        """Return sweeps, newest first; the last one's `number` is the next page's `before_number`."""
        query = select(*SWEEP_COLUMNS).where(*_owned_by(tenant)).order_by(sweeps.c.number.desc()).limit(limit)
        if before_number is not None:
            query = query.where(sweeps.c.number < before_number)
        with reading(self._engine) as connection:
            return [sweep_of(row) for row in connection.execute(query)]

    def request_cancel(self, sweep_id: str, by: Principal = LOCAL_USER) -> Sweep:
        """Record a cancel request, which the supervisor carries out; repeating it changes nothing.

        Raises:
            SweepNotFound: no sweep has this id.
            SweepEnded: it has succeeded or failed.
        """
        with writing(self._engine) as connection:
            sweep = locked_sweep(connection, sweep_id, *_owned_by(by.visible_tenant))
            if sweep.status in (SweepStatus.SUCCEEDED, SweepStatus.FAILED):
                raise SweepEnded(sweep.id, sweep.status)
            if sweep.cancel_requested_at is not None:
                return sweep
            append_audit(connection, by, "sweep.cancel", sweep.id, tenant=sweep.tenant)
            return update_sweep(connection, sweep.id, cancel_requested_at=time.time())

    def delete(self, sweep_id: str, by: Principal = LOCAL_USER) -> None:
        """Delete a sweep that has ended with the table of its trials, whose jobs remain.

        Raises:
            SweepNotFound: no sweep has this id.
            SweepNotEnded: it is running, or its final status has not reached MLflow yet.
        """
        with writing(self._engine) as connection:
            sweep = locked_sweep(connection, sweep_id, *_owned_by(by.visible_tenant))
            is_settled = sweep.mlflow_run_id is None or sweep.mlflow_status is not None
            if not sweep.status.is_terminal or not is_settled:
                raise SweepNotEnded(sweep.id, sweep.status)
            append_audit(connection, by, "sweep.delete", sweep.id, tenant=sweep.tenant)
            connection.execute(delete(sweeps).where(sweeps.c.id == sweep.id))


def _owned_by(tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if tenant is None else (sweeps.c.tenant == tenant,)


def _sweep_of_key(connection: Connection, tenant: str, key: str, body_hash: str | None) -> Sweep | None:
    query = select(*SWEEP_COLUMNS, sweeps.c.request_hash).where(sweeps.c.tenant == tenant, sweeps.c.request_key == key)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.request_hash != body_hash:
        raise KeyReused(key)
    return sweep_of(connection.execute(select(*SWEEP_COLUMNS).where(sweeps.c.id == row.id)).one())
