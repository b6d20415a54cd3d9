"""Images that were uploaded with a job are versions of data sets that are deleted with the job."""

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the mark; all earlier versions were uploaded as data sets."""
    op.add_column(
        "dataset_versions",
        Column(
            "of_jobs",
            Boolean,
            nullable=False,
            server_default=false(),
            comment="images that were uploaded with a job; they are deleted with the last job that uses them",
        ),
    )


def downgrade() -> None:
    """Remove the mark; images of jobs are data sets then, which `keep_datasets` and clients delete."""
    op.drop_column("dataset_versions", "of_jobs")
