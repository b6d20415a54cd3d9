"""Jobs that need GPUs of one type."""

from alembic import op
from sqlalchemy import Column, String

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the type of GPUs; earlier jobs run on any."""
    op.add_column("jobs", Column("gpu_type", String(64)))


def downgrade() -> None:
    """Remove the type of GPUs."""
    op.drop_column("jobs", "gpu_type")
