"""Rows from before there were keys belong to the tenant `local`, and a downgrade keeps them."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from service import migrations
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.records import NewJob

OLD_JOB = {
    "id": "a" * 12, "name": "old", "status": "succeeded", "priority": 0, "cpus": 1, "gpus": 0, "created_at": 1.0,
    "not_before": 1.0, "attempt": 1, "failures": 0, "events_offset": 0, "config": '{"name": "old"}',
}  # fmt: skip
NEW = NewJob(name="new", config={"name": "new"}, priority=0, cpus=1, gpus=0)


def migrate(url: str, move: Any, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = OFF"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        move(config, revision)


def test_old_rows_belong_to_the_local_tenant_and_survive_a_downgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    migrate(url, command.upgrade, "0001")
    old = create_engine(url, poolclass=NullPool)
    with old.begin() as connection:
        names = ", ".join(OLD_JOB)
        values = ", ".join(f":{name}" for name in OLD_JOB)
        connection.execute(text(f"INSERT INTO jobs (number, {names}) VALUES (7, {values})"), OLD_JOB)
        connection.execute(text("UPDATE sqlite_sequence SET seq = 9 WHERE name = 'jobs'"))  # 8 and 9 were deleted
        connection.execute(
            text("INSERT INTO events VALUES (1, :id, 1, 1.0, 'status', 0, 0, '{}')"), {"id": OLD_JOB["id"]}
        )
        connection.execute(text("INSERT INTO idempotency_keys VALUES ('key', 'hash', :id, 1.0)"), {"id": OLD_JOB["id"]})
    engine = open_database(url)
    store = JobStore(engine)
    job = store.get("a" * 12, LOCAL_USER.tenant)
    assert (job.number, job.tenant, job.key_id) == (7, "local", None)
    assert len(store.events(job.id, 0)) == 1
    assert store.submit(NEW, "key", "hash") == (job, False)
    new, _ = store.submit(NEW)
    assert new.number == 10
    KeyStore(engine).create(
        "b" * 12, "hash", name="k", tenant="local", scopes=[Scope.ADMIN], expires_at=None, limits=LOCAL_USER.limits,
        by=LOCAL_USER,
    )  # fmt: skip
    engine.dispose()
    migrate(url, command.downgrade, "0001")
    with old.begin() as connection:
        found = connection.execute(text("SELECT number, id FROM jobs ORDER BY number")).all()
        assert [tuple(row) for row in found] == [(7, job.id), (10, new.id)]
        assert connection.execute(text("SELECT key, job_id FROM idempotency_keys")).all() == [("key", job.id)]
        assert connection.execute(text("SELECT count(*) FROM events")).scalar_one() == 2
    engine = open_database(url)
    assert JobStore(engine).get(new.id).tenant == "local"
    engine.dispose()
