"""Rows from before there were keys belong to the tenant `local`, and a downgrade keeps them."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from service import migrations
from service.principal import LOCAL_USER, Principal
from service.scopes import Scope
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.engines import DatabaseLimits, engine_of, parse_url
from service.store.jobs import JobStore
from service.store.records import NewJob

OLD_JOB = {
    "id": "a" * 12, "name": "old", "status": "succeeded", "priority": 0, "cpus": 1, "gpus": 0, "created_at": 1.0,
    "not_before": 1.0, "attempt": 1, "failures": 0, "events_offset": 0, "config": '{"name": "old"}',
}  # fmt: skip
NEW = NewJob(name="new", config={"name": "new"}, priority=0, cpus=1, gpus=0)


def migrate(engine: Engine, move: Any, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            config.attributes["connection"] = connection
            move(config, revision)


@pytest.mark.representative
def test_old_rows_belong_to_the_local_tenant_and_survive_a_downgrade(empty_url: str) -> None:
    old = engine_of(parse_url(empty_url), DatabaseLimits(), is_pooled=False)
    migrate(old, command.upgrade, "0001")
    with old.begin() as connection:
        names = ", ".join(OLD_JOB)
        values = ", ".join(f":{name}" for name in OLD_JOB)
        connection.execute(text(f"INSERT INTO jobs (number, {names}) VALUES (7, {values})"), OLD_JOB)
        advance = {
            "sqlite": "UPDATE sqlite_sequence SET seq = 9 WHERE name = 'jobs'",
            "postgresql": "SELECT setval('jobs_number_seq', 9)",
        }
        connection.execute(text(advance[old.dialect.name]))  # jobs 8 and 9 were deleted
        of_job = {"id": OLD_JOB["id"]}
        columns = "job_id, attempt, time, kind, epoch, step, data"
        connection.execute(text(f"INSERT INTO events ({columns}) VALUES (:id, 1, 1.0, 'status', 0, 0, '{{}}')"), of_job)
        connection.execute(text("INSERT INTO idempotency_keys VALUES ('key', 'hash', :id, 1.0)"), of_job)
    engine = open_database(empty_url)
    store = JobStore(engine)
    job = store.get("a" * 12, LOCAL_USER.tenant)
    assert (job.number, job.tenant, job.key_id) == (7, "local", None)
    assert len(store.events(job.id, 0)) == 1
    assert store.submit(NEW, "key", "hash") == (job, False)
    new, _ = store.submit(NEW, "new", "hash", Principal("ci", "blue"))
    again, _ = store.submit(NEW, "key", "other", Principal("ci", "blue"))
    assert (new.number, again.tenant) == (10, "blue")
    KeyStore(engine).create(
        "b" * 12, "hash", name="k", tenant="local", scopes=[Scope.ADMIN], expires_at=None, limits=LOCAL_USER.limits,
        by=LOCAL_USER,
    )  # fmt: skip
    engine.dispose()
    migrate(old, command.downgrade, "0002")
    with old.begin() as connection:
        found = connection.execute(text("SELECT number, id FROM jobs ORDER BY number")).all()
        assert [tuple(row) for row in found] == [(7, job.id), (10, new.id), (11, again.id)]
        keys = connection.execute(text("SELECT key, job_id FROM idempotency_keys ORDER BY key")).all()
        assert [tuple(row) for row in keys] == [("key", again.id), ("new", new.id)]
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 3
    engine = open_database(empty_url)
    assert JobStore(engine).get(new.id).tenant == "local"
    engine.dispose()
