"""Kinds of jobs. All earlier jobs train a model, which is the kind `fit`."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op
from alembic.operations import BatchOperations
from sqlalchemy import Column, String, text

revision = "0002"
down_revision = "0001"

_UNSETTLED = text("mlflow_run_id IS NOT NULL AND mlflow_status IS NULL")


def upgrade() -> None:
    """Add the kind of a job, near the start of the row: SQLite reads a row up to the last column that it needs."""
    kind = Column("kind", String(32), nullable=False, server_default="fit", comment="see service.jobs.kinds")
    if op.get_bind().dialect.name == "sqlite":
        with _rebuilt_jobs() as batch:
            batch.add_column(kind, insert_after="name")
    else:
        op.add_column("jobs", kind)
    op.create_index("jobs_by_kind", "jobs", ["kind", "status", "number"])


def downgrade() -> None:
    """Remove the kind; an earlier version rejects jobs of other kinds, since their documents are invalid for it."""
    op.drop_index("jobs_by_kind", "jobs")
    if op.get_bind().dialect.name == "sqlite":
        with _rebuilt_jobs() as batch:
            batch.drop_column("kind")
    else:
        op.drop_column("jobs", "kind")


@contextmanager
def _rebuilt_jobs() -> Iterator[BatchOperations]:
    """Copy the table with other columns. SQLite's copy loses the order of indexes and the last number that was used."""
    last = op.get_bind().execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar_one_or_none()
    _drop_indexes()
    with op.batch_alter_table("jobs", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as batch:
        yield batch
    _create_indexes()
    if last is not None:
        op.get_bind().execute(text("DELETE FROM sqlite_sequence WHERE name = 'jobs'"))
        op.get_bind().execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', :last)"), {"last": last})


def _drop_indexes() -> None:
    for name in ("status", "name", "time", "run"):
        op.drop_index(f"jobs_by_{name}", "jobs")
    op.drop_index("jobs_in_queue", "jobs")
    op.drop_index("jobs_unsettled", "jobs")


def _create_indexes() -> None:
    op.create_index("jobs_by_status", "jobs", ["status", "number"])
    op.create_index("jobs_by_name", "jobs", ["name", "status", "number"])
    op.create_index("jobs_by_time", "jobs", ["created_at", "number"])
    op.create_index("jobs_by_run", "jobs", ["mlflow_run_id"])
    op.create_index("jobs_in_queue", "jobs", ["status", text("priority DESC"), "number"])
    op.create_index("jobs_unsettled", "jobs", ["number"], sqlite_where=_UNSETTLED, postgresql_where=_UNSETTLED)
