"""Jobs, their attempts and events, and idempotency keys."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer, String, Text, text

revision = "0001"
down_revision = None

_KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the first tables."""
    _make_jobs()
    op.create_table(
        "attempts",
        Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("lease_owner", String(32), nullable=False),
        Column("gpu_ids", JSON, nullable=False),
        Column("started_at", Float, nullable=False),
        Column("ended_at", Float),
        Column("outcome", String(16), comment="succeeded, stopped, failed, lost or cancelled"),
        Column("exit_code", Integer, comment="negative: the signal that ended the trainer"),
        Column("message", Text),
    )
    op.create_table(
        "events",
        Column("seq", _KEY, primary_key=True, autoincrement=True),
        Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("time", Float, nullable=False),
        Column("kind", String(16), nullable=False),
        Column("epoch", Integer, nullable=False),
        Column("step", Integer, nullable=False),
        Column("data", JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_job", "events", ["job_id", "seq"])
    op.create_table(
        "idempotency_keys",
        Column("key", String(255), primary_key=True),
        Column("body_hash", String(64), nullable=False),
        Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        Column("created_at", Float, nullable=False),
    )
    op.create_index("keys_by_job", "idempotency_keys", ["job_id"])


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        Column("number", _KEY, primary_key=True, autoincrement=True, comment="the order of submission"),
        Column("id", String(32), nullable=False, unique=True),
        Column("name", String(64), nullable=False),
        Column("status", String(16), nullable=False),
        Column("stage", String(32), comment="what the running attempt does"),
        Column("priority", Integer, nullable=False),
        Column("cpus", Integer, nullable=False),
        Column("gpus", Integer, nullable=False),
        Column("timeout_s", Float, comment="seconds from the start of the first attempt"),
        Column("retry_of", String(32)),
        Column("created_at", Float, nullable=False),
        Column("started_at", Float, comment="the start of the first attempt"),
        Column("finished_at", Float),
        Column("cancel_requested_at", Float),
        Column("not_before", Float, nullable=False, comment="the earliest start of the next attempt"),
        Column("attempt", Integer, nullable=False, comment="the current or last attempt; 0 before the first"),
        Column("failures", Integer, nullable=False, comment="attempts that spent a retry"),
        Column("lease_owner", String(32), comment="the only supervisor that may write while the job is active"),
        Column("progress", JSON, comment="the newest progress event, with epoch and step"),
        Column("events_offset", BigInteger, nullable=False, comment="bytes of events.jsonl that are in `events`"),
        Column("failure_kind", String(32)),
        Column("failure_message", Text),
        Column("mlflow_run_id", String(64)),
        Column("mlflow_status", String(16), comment="the final status that MLflow has"),
        Column("config", JSON, nullable=False, comment="the document as it was submitted"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_by_status", "jobs", ["status", "number"])
    op.create_index("jobs_by_name", "jobs", ["name", "status", "number"])
    op.create_index("jobs_by_time", "jobs", ["created_at", "number"])
    op.create_index("jobs_by_run", "jobs", ["mlflow_run_id"])
    op.create_index("jobs_in_queue", "jobs", ["status", text("priority DESC"), "number"])
    unsettled = text("mlflow_run_id IS NOT NULL AND mlflow_status IS NULL")
    op.create_index("jobs_unsettled", "jobs", ["number"], sqlite_where=unsettled, postgresql_where=unsettled)
