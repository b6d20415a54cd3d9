"""Marks of jobs whose files are being deleted, so that a deletion that was interrupted is finished."""

from alembic import op
from sqlalchemy import Column, Float, ForeignKey, String

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table of marks."""
    op.create_table(
        "job_deletions",
        Column(
            "job_id",
            String(32),
            ForeignKey("jobs.id", ondelete="CASCADE"),
            primary_key=True,
            comment="a job whose files are being deleted",
        ),
        Column("started_at", Float, nullable=False),
    )


def downgrade() -> None:
    """Remove the marks; the jobs remain, without the files that were deleted already."""
    op.drop_table("job_deletions")
