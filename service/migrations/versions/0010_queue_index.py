"""Indexes that let a supervisor skip waiting jobs that do not fit, and list one kind of the jobs of a tenant."""

from alembic import op
from sqlalchemy import TextClause, text

revision = "0010"
down_revision = "0009"

QUEUE = "jobs_in_queue"
KINDS = "jobs_by_tenant_and_kind"
ORDER: tuple[str | TextClause, ...] = ("status", text("priority DESC"), "number")


def upgrade() -> None:
    """Add the requested resources to the index of the queue, and an index by tenant and kind."""
    op.drop_index(QUEUE, table_name="jobs")
    op.create_index(QUEUE, "jobs", [*ORDER, "cpus", "gpus", "num_nodes"])
    op.create_index(KINDS, "jobs", ["tenant", "kind", "status", "number"])


def downgrade() -> None:
    """Restore the earlier indexes."""
    op.drop_index(KINDS, table_name="jobs")
    op.drop_index(QUEUE, table_name="jobs")
    op.create_index(QUEUE, "jobs", [*ORDER])
