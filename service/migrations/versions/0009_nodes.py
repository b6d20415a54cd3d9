"""Jobs that run on several nodes at once."""

from alembic import op
from sqlalchemy import Column, Integer

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the number of nodes; all earlier jobs run on one."""
    op.add_column("jobs", Column("num_nodes", Integer, nullable=False, server_default="1"))


def downgrade() -> None:
    """Remove the number of nodes."""
    op.drop_column("jobs", "num_nodes")
