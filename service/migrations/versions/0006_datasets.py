"""Versions of data sets, and the jobs that use them."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer, String, Text

revision = "0006"
down_revision = "0005"

_KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "dataset_versions",
        Column("number", _KEY, primary_key=True, autoincrement=True, comment="the order of creation"),
        Column("id", String(32), nullable=False, unique=True, comment="owner of the archive, and name of the folder"),
        Column("tenant", String(64), nullable=False),
        Column("created_by", String(64), nullable=False),
        Column("key_id", String(16), comment="the key that it was uploaded with"),
        Column("name", String(64), nullable=False),
        Column("sha256", String(64), nullable=False, comment="the version: a digest of the content and its sources"),
        Column("status", String(16), nullable=False, comment="checking, ready, invalid or deleting"),
        Column("message", Text, comment="the reason why it is invalid, or why its check has to be repeated"),
        Column("content_sha256", String(64), nullable=False, comment="of the archive, or of the folder's listing"),
        Column("archive_bytes", BigInteger, nullable=False),
        Column("folder", Text, comment="path below a data root; null for an archive"),
        Column("sources", JSON, comment="how the data is read, as in a document; null until its format is recognized"),
        Column("created_at", Float, nullable=False),
        Column("checked_at", Float),
        Column(
            "check_due_at", Float, nullable=False, comment="the earliest start of the next check; later while one runs"
        ),
        Column("check_owner", String(32), comment="the only process that may write the result of the check"),
        Column("check_attempts", Integer, nullable=False),
        Column("files_bytes", BigInteger, nullable=False, comment="extracted files"),
        Column("num_images", Integer),
        sqlite_autoincrement=True,
    )
    op.create_index("dataset_versions_by_name", "dataset_versions", ["tenant", "name", "sha256"], unique=True)
    op.create_index("dataset_versions_due", "dataset_versions", ["status", "check_due_at"])
    op.create_table(
        "dataset_uses",
        Column("job_id", String(32), primary_key=True),
        Column("dataset_id", String(32), ForeignKey("dataset_versions.id"), nullable=False),
        Column("mlflow_run_id", String(64), comment="of a deleted job, whose models may exist"),
    )
    op.create_index("dataset_uses_by_dataset", "dataset_uses", ["dataset_id"])


def downgrade() -> None:
    """Remove the tables; the folders and archives remain."""
    op.drop_table("dataset_uses")
    op.drop_table("dataset_versions")
