"""Rows of `sweeps` and `sweep_trials` as values, and the reads that both stores of sweeps share."""

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from service.states import SweepStatus, TrialState
from service.store.errors import SweepNotFound
from service.store.sweep_records import Report, Sweep, SweepTrial
from service.store.tables import sweep_trials, sweeps

SWEEP_COLUMNS = tuple(sweeps.c[field.name] for field in fields(Sweep))
"""All columns except the document, which may be long, and the request."""


def sweep_of(row: Row[Any]) -> Sweep:
    """Return the sweep of a row of `SWEEP_COLUMNS`."""
    values = row._asdict()
    return Sweep(**{**values, "status": SweepStatus(values["status"])})


def trial_of(row: Row[Any]) -> SweepTrial:
    """Return the trial of a row."""
    values = row._asdict()
    reports = tuple(Report(*report) for report in values["reports"])
    return SweepTrial(**{**values, "state": TrialState(values["state"]), "reports": reports})


def locked_sweep(connection: Connection, sweep_id: str, *conditions: ColumnElement[bool]) -> Sweep:
    """Return a sweep that meets the conditions, locked until the transaction ends; raises SweepNotFound."""
    query = select(*SWEEP_COLUMNS).where(sweeps.c.id == sweep_id, *conditions).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise SweepNotFound(sweep_id)
    return sweep_of(row)


def update_sweep(connection: Connection, sweep_id: str, **values: Any) -> Sweep:
    """Write values to a locked sweep and return it with them."""
    query = update(sweeps).where(sweeps.c.id == sweep_id).values(values)
    return sweep_of(connection.execute(query.returning(*SWEEP_COLUMNS)).one())


def trials_of(connection: Connection, sweep_id: str, first: int = 0) -> list[SweepTrial]:
    """Return the trials of a sweep from a number on, in their order."""
    query = select(sweep_trials).where(sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.number >= first)
    return [trial_of(row) for row in connection.execute(query.order_by(sweep_trials.c.number))]


def trial_of_job(connection: Connection, job_id: str) -> SweepTrial | None:
    """Return the trial that a job runs; None for other jobs."""
    row = connection.execute(select(sweep_trials).where(sweep_trials.c.job_id == job_id)).one_or_none()
    return None if row is None else trial_of(row)
