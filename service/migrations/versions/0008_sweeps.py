"""Sweeps, and their trials."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Integer, String, Text

revision = "0008"
down_revision = "0007"

_KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "sweeps",
        Column("number", _KEY, primary_key=True, autoincrement=True, comment="the order of submission"),
        Column("id", String(32), nullable=False, unique=True),
        Column("name", String(64), nullable=False),
        Column("status", String(16), nullable=False, comment="running, succeeded, failed or cancelled"),
        Column("priority", Integer, nullable=False, comment="of the trials' jobs, like the resources"),
        Column("cpus", Integer, nullable=False),
        Column("gpus", Integer, nullable=False),
        Column("timeout_s", Float, comment="time limit of each trial"),
        Column("dataset_id", String(32), comment="the version of a data set that the trials use"),
        Column("created_at", Float, nullable=False),
        Column("finished_at", Float),
        Column("cancel_requested_at", Float),
        Column("message", Text, comment="the reason why it fails or waits"),
        Column("is_failing", Boolean, nullable=False, comment="it ends as failed once no trial is active"),
        Column("mlflow_run_id", String(64), comment="the parent run of the trials' runs"),
        Column("mlflow_status", String(16), comment="the final status that MLflow has"),
        Column("tenant", String(64), nullable=False),
        Column("key_id", String(16), comment="the key that submitted it"),
        Column("request_key", String(255), comment="Idempotency-Key of the request"),
        Column("request_hash", String(64)),
        Column("config", JSON, nullable=False, comment="the document, with the pinned data set and the metric"),
        sqlite_autoincrement=True,
    )
    op.create_index("sweeps_by_status", "sweeps", ["status", "number"])
    op.create_index("sweeps_by_tenant", "sweeps", ["tenant", "number"])
    op.create_index("sweeps_by_request", "sweeps", ["tenant", "request_key"], unique=True)
    op.create_table(
        "sweep_trials",
        Column("sweep_id", String(32), ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
        Column("number", Integer, primary_key=True, comment="counted from 0"),
        Column("job_id", String(32), comment="null if its document was invalid"),
        Column("state", String(16), nullable=False, comment="running, pruning, complete, pruned, failed or cancelled"),
        Column("params", JSON, nullable=False, comment="the values of the searched fields, by dotted name"),
        Column("reports", JSON, nullable=False, comment="[epoch, value, seq] of each metric event, by seq"),
        Column("value", Float, comment="the metric; null unless it is complete"),
        Column("limited", JSON, nullable=False, comment="the numbers that constraints limit, by name"),
        Column("message", Text, comment="the reason of its state"),
        Column("created_at", Float, nullable=False),
        Column("ended_at", Float),
    )
    op.create_index("sweep_trials_by_job", "sweep_trials", ["job_id"])


def downgrade() -> None:
    """Remove the tables; the jobs of the trials remain."""
    op.drop_table("sweep_trials")
    op.drop_table("sweeps")
