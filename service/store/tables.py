"""The tables of the database. Times are seconds since 1970, UTC. Torch-free."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

metadata = MetaData()

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows only by a key of the type INTEGER."""

jobs = Table(
    "jobs",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=True, comment="the order of submission"),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("kind", String(32), nullable=False, server_default="fit", comment="see service.jobs.kinds"),
    Column("status", String(16), nullable=False),
    Column("stage", String(32), comment="current activity of the running attempt"),
    Column("priority", Integer, nullable=False),
    Column("cpus", Integer, nullable=False, comment="of each node"),
    Column("gpus", Integer, nullable=False, comment="of each node"),
    Column("num_nodes", Integer, nullable=False, server_default="1"),
    Column("gpu_type", String(64), comment="as the executor names it; null for any"),
    Column("timeout_s", Float, comment="seconds from the start of the first attempt"),
    Column("retry_of", String(32)),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float, comment="the start of the first attempt"),
    Column("finished_at", Float),
    Column("cancel_requested_at", Float),
    Column("not_before", Float, nullable=False, comment="the earliest start of the next attempt"),
    Column("attempt", Integer, nullable=False, comment="the current or last attempt; 0 before the first"),
    Column("failures", Integer, nullable=False, comment="attempts that count against the limit"),
    Column("lease_owner", String(32), comment="the only supervisor that may write while the job is active"),
    Column("progress", JSON, comment="the newest progress event, with epoch and step"),
    Column("events_offset", BigInteger, nullable=False, comment="bytes of events.jsonl that are in `events`"),
    Column("failure_kind", String(32)),
    Column("failure_message", Text),
    Column("mlflow_run_id", String(64)),
    Column("mlflow_status", String(16), comment="the final status that MLflow has"),
    Column("tenant", String(64), nullable=False, server_default="local"),
    Column("key_id", String(16), comment="the key that submitted the job"),
    # Last because it is long: SQLite reads a row from its start.
    Column("config", JSON, nullable=False, comment="the document as it was submitted"),
    sqlite_autoincrement=True,
)
Index("jobs_by_status", jobs.c.status, jobs.c.number)
Index("jobs_by_name", jobs.c.name, jobs.c.status, jobs.c.number)
Index("jobs_by_kind", jobs.c.kind, jobs.c.status, jobs.c.number)
Index("jobs_by_time", jobs.c.created_at, jobs.c.number)
Index("jobs_by_run", jobs.c.mlflow_run_id)
# With the resources, so that waiting jobs that do not fit are skipped without reading their rows.
Index(
    "jobs_in_queue",
    jobs.c.status,
    jobs.c.priority.desc(),
    jobs.c.number,
    jobs.c.cpus,
    jobs.c.gpus,
    jobs.c.num_nodes,
)
Index("jobs_by_tenant", jobs.c.tenant, jobs.c.number)
Index("jobs_by_tenant_and_status", jobs.c.tenant, jobs.c.status, jobs.c.number)
Index("jobs_by_tenant_and_name", jobs.c.tenant, jobs.c.name, jobs.c.status, jobs.c.number)
Index("jobs_by_tenant_and_kind", jobs.c.tenant, jobs.c.kind, jobs.c.status, jobs.c.number)
Index("jobs_by_key", jobs.c.key_id, jobs.c.status)
_unsettled = jobs.c.mlflow_run_id.is_not(None) & jobs.c.mlflow_status.is_(None)
Index("jobs_unsettled", jobs.c.number, sqlite_where=_unsettled, postgresql_where=_unsettled)


def _job_id() -> ForeignKey:
    return ForeignKey("jobs.id", ondelete="CASCADE")


attempts = Table(
    "attempts",
    metadata,
    Column("job_id", String(32), _job_id(), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("lease_owner", String(32), nullable=False),
    Column("gpu_ids", JSON, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("outcome", String(16), comment="succeeded, stopped, failed, lost or cancelled"),
    Column("exit_code", Integer, comment="if negative, the signal that terminated the trainer"),
    Column("message", Text),
    Column("host", String(255), comment="host whose processes the attempt consists of"),
    Column("root", Text, comment="root that contains the run folder"),
    Column("boot_id", String(36), comment="boot in which it was started"),
    Column("started_uptime_s", Float, comment="start in seconds since that boot"),
)

supervisor_leases = Table(
    "supervisor_leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("owner", String(32), comment="the only supervisor that may start attempts; null once it has ended"),
    Column("beat", BigInteger, nullable=False, comment="counts the renewals by all owners"),
    Column("beat_at", Float, nullable=False, comment="time of the last renewal by the owner's clock, for people"),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("locked_root", Text, comment="root whose lock file the owner holds"),
)

write_probes = Table(
    "write_probes",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("number", BigInteger, nullable=False, comment="counts the probes"),
)

events = Table(
    "events",
    metadata,
    Column("seq", Key, primary_key=True, autoincrement=True),
    Column("job_id", String(32), _job_id(), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("time", Float, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("events_by_job", events.c.job_id, events.c.seq)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("job_id", String(32), _job_id(), nullable=False),
    Column("created_at", Float, nullable=False),
)
Index("keys_by_job", idempotency_keys.c.job_id)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=True, comment="the order of creation"),
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
    Column("check_due_at", Float, nullable=False, comment="the earliest start of the next check; later while one runs"),
    Column("check_owner", String(32), comment="the only process that may write the result of the check"),
    Column("check_attempts", Integer, nullable=False),
    Column("files_bytes", BigInteger, nullable=False, comment="extracted files"),
    Column("num_images", Integer),
    Column(
        "of_jobs",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="images that were uploaded with a job; they are deleted with the last job that uses them",
    ),
    sqlite_autoincrement=True,
)
Index(
    "dataset_versions_by_name",
    dataset_versions.c.tenant,
    dataset_versions.c.name,
    dataset_versions.c.sha256,
    unique=True,
)
Index("dataset_versions_due", dataset_versions.c.status, dataset_versions.c.check_due_at)

dataset_uses = Table(
    "dataset_uses",
    metadata,
    # Not a foreign key: the row outlives its job, whose model may need the data set.
    Column("job_id", String(32), primary_key=True),
    Column("dataset_id", String(32), ForeignKey("dataset_versions.id"), nullable=False),
    Column("mlflow_run_id", String(64), comment="of a deleted job, whose models may exist"),
)
Index("dataset_uses_by_dataset", dataset_uses.c.dataset_id)

api_keys = Table(
    "api_keys",
    metadata,
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

audit = Table(
    "audit",
    metadata,
    Column("seq", Key, primary_key=True, autoincrement=True),
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

job_deletions = Table(
    "job_deletions",
    metadata,
    Column("job_id", String(32), _job_id(), primary_key=True, comment="a job whose files are being deleted"),
    Column("started_at", Float, nullable=False),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=True, comment="the order of submission"),
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
Index("sweeps_by_status", sweeps.c.status, sweeps.c.number)
Index("sweeps_by_tenant", sweeps.c.tenant, sweeps.c.number)
Index("sweeps_by_request", sweeps.c.tenant, sweeps.c.request_key, unique=True)

sweep_trials = Table(
    "sweep_trials",
    metadata,
    Column("sweep_id", String(32), ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, comment="counted from 0"),
    # Not a foreign key: the row outlives its job.
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
Index("sweep_trials_by_job", sweep_trials.c.job_id)
