"""The lease of the active supervisor, the place and the clock of attempts, and a row for probes."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add two tables; attempts of earlier versions have no host and no clock."""
    op.create_table(
        "supervisor_leases",
        Column("name", String(32), primary_key=True),
        Column("owner", String(32), comment="the only supervisor that may start attempts; null once it has ended"),
        Column("beat", BigInteger, nullable=False, comment="counts the renewals by all owners"),
        Column("beat_at", Float, nullable=False, comment="time of the last renewal by the owner's clock, for people"),
        Column("host", String(255), nullable=False),
        Column("pid", Integer, nullable=False),
        Column("locked_root", Text, comment="root whose lock file the owner holds"),
    )
    op.create_table(
        "write_probes",
        Column("name", String(32), primary_key=True),
        Column("number", BigInteger, nullable=False, comment="counts the probes"),
    )
    op.add_column("attempts", Column("host", String(255), comment="host whose processes the attempt consists of"))
    op.add_column("attempts", Column("root", Text, comment="root that contains the run folder"))
    op.add_column("attempts", Column("boot_id", String(36), comment="boot in which it was started"))
    op.add_column("attempts", Column("started_uptime_s", Float, comment="start in seconds since that boot"))


def downgrade() -> None:
    """Remove both tables and the columns."""
    with op.batch_alter_table("attempts") as batch:
        for name in ("started_uptime_s", "boot_id", "root", "host"):
            batch.drop_column(name)
    op.drop_table("write_probes")
    op.drop_table("supervisor_leases")
