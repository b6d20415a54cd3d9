"""API keys, tenants and the audit log. Everything that exists belongs to the tenant `local`."""

from typing import Any

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer, String, Text, text

revision = "0003"
down_revision = "0002"

_KEY = BigInteger().with_variant(Integer, "sqlite")
_UNSETTLED = text("mlflow_run_id IS NOT NULL AND mlflow_status IS NULL")
_OLD_INDEXES: dict[str, list[Any]] = {
    "jobs_by_status": ["status", "number"],
    "jobs_by_name": ["name", "status", "number"],
    "jobs_by_time": ["created_at", "number"],
    "jobs_by_run": ["mlflow_run_id"],
    "jobs_in_queue": ["status", text("priority DESC"), "number"],
    "jobs_unsettled": ["number"],
    "jobs_by_kind": ["kind", "status", "number"],
}
_NEW_INDEXES: dict[str, list[Any]] = {
    "jobs_by_tenant": ["tenant", "number"],
    "jobs_by_tenant_and_status": ["tenant", "status", "number"],
    "jobs_by_tenant_and_name": ["tenant", "name", "status", "number"],
    "jobs_by_key": ["key_id", "status"],
}


def upgrade() -> None:
    """Add the owners of jobs and idempotency keys, and the tables of keys and of the audit log."""
    op.create_table(
        "api_keys",
        Column("id", String(16), primary_key=True, comment="the part of the key that is shown"),
        Column("name", String(64), nullable=False),
        Column("tenant", String(64), nullable=False),
        Column("scopes", JSON, nullable=False),
        Column("secret_hash", String(64), nullable=False, comment="SHA-256 of the complete key"),
        Column("created_at", Float, nullable=False),
        Column("expires_at", Float),
        Column("revoked_at", Float),
        Column("last_used_at", Float, comment="written at most once a minute"),
        Column("requests_per_minute", Integer, comment="instead of the limit of the server"),
        Column("queued_jobs", Integer, comment="instead of the limit of the server"),
        Column("storage_bytes", BigInteger, comment="instead of the limit of the server"),
    )
    op.create_table(
        "audit",
        Column("seq", _KEY, primary_key=True, autoincrement=True),
        Column("time", Float, nullable=False),
        Column("request_id", String(64)),
        Column("actor", String(64), nullable=False, comment="name of the user or of the key"),
        Column("key_id", String(16)),
        Column("tenant", String(64), nullable=False, comment="owner of the target"),
        Column("action", String(32), nullable=False),
        Column("target", String(300), nullable=False),
        Column("outcome", String(16), nullable=False, comment="done, started or failed"),
        Column("detail", Text),
        sqlite_autoincrement=True,
    )
    owner: Column[Any] = Column("tenant", String(64), nullable=False, server_default="local")
    _change_jobs([owner, Column("key_id", String(16), comment="the key that submitted the job")], _NEW_INDEXES)
    _replace_idempotency_keys([Column("tenant", String(64), primary_key=True)], "'local', ")


def downgrade() -> None:
    """Remove owners, keys and the audit log; of equal idempotency keys of several tenants, one remains."""
    _replace_idempotency_keys([], "")
    _change_jobs([], {})
    op.drop_table("audit")
    op.drop_table("api_keys")


def _change_jobs(columns: list[Column[Any]], indexes: dict[str, list[Any]]) -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in _OLD_INDEXES if columns else [*_OLD_INDEXES, *_NEW_INDEXES]:
        op.drop_index(name, "jobs")
    numbers = op.get_bind().execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")) if is_sqlite else None
    last = numbers.scalar_one_or_none() if numbers else None
    # SQLite reads a row from its start, so the long document stays the last column.
    options: dict[str, Any] = (
        {"recreate": "always", "table_kwargs": {"sqlite_autoincrement": True}} if is_sqlite else {}
    )
    with op.batch_alter_table("jobs", **options) as batch:
        for column in columns:
            batch.add_column(column, insert_before="config" if is_sqlite else None)
        for name in () if columns else ("tenant", "key_id"):
            batch.drop_column(name)
    if last is not None:  # numbers of deleted jobs are not used again
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', {int(last)})")
    for name, keys in {**_OLD_INDEXES, **indexes}.items():
        where: dict[str, Any] = (
            {"sqlite_where": _UNSETTLED, "postgresql_where": _UNSETTLED} if name == "jobs_unsettled" else {}
        )
        op.create_index(name, "jobs", keys, **where)


def _replace_idempotency_keys(columns: list[Column[Any]], values: str) -> None:
    """Create the table with other columns in its primary key."""
    op.drop_index("keys_by_job", "idempotency_keys")
    op.rename_table("idempotency_keys", "old_idempotency_keys")
    op.create_table(
        "idempotency_keys",
        *columns,
        Column("key", String(255), primary_key=True),
        Column("body_hash", String(64), nullable=False),
        Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        Column("created_at", Float, nullable=False),
    )
    names = "key, body_hash, job_id, created_at"
    added = "".join(f"{column.name}, " for column in columns)
    chosen = "" if columns else " WHERE tenant = (SELECT min(o.tenant) FROM old_idempotency_keys o WHERE o.key = k.key)"
    op.execute(
        f"INSERT INTO idempotency_keys ({added}{names}) SELECT {values}{names} FROM old_idempotency_keys k{chosen}"
    )
    op.drop_table("old_idempotency_keys")
    op.create_index("keys_by_job", "idempotency_keys", ["job_id"])
