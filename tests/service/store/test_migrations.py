"""The schema created by the migrations is the schema that the code reads and writes."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text

from service import migrations
from service.child_process import child_environment
from service.store.database import open_database
from service.store.engines import parse_url
from service.store.jobs import JobStore
from service.store.records import NewJob
from service.store.schema import migrate, newest_schema
from service.store.tables import metadata

ROOT = Path(__file__).resolve().parents[3]


def schema(engine: Engine) -> dict[str, object]:
    """Return the columns, keys, constraints and indexes of each table, without their order, by name."""
    inspector = inspect(engine)

    def by_name(items: Iterable[Mapping[str, Any]]) -> list[str]:
        # Comments are for readers of the code: migrations keep those of their time.
        return sorted(str({key: plain(value) for key, value in item.items() if key != "comment"}) for item in items)

    def plain(value: Any) -> str:
        return str({key: str(part) for key, part in value.items()}) if isinstance(value, dict) else str(value)

    return {
        table: {
            "columns": by_name(inspector.get_columns(table)),
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": by_name(inspector.get_foreign_keys(table)),
            "unique": by_name(inspector.get_unique_constraints(table)),
            "indexes": by_name(inspector.get_indexes(table)),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


@pytest.mark.representative
def test_alembic_finds_no_difference_between_a_migrated_database_and_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        found = compare_metadata(context, metadata)
    # Columns of one table are grouped in a list. Comments are for readers of the code.
    changes = [change for group in found for change in (group if isinstance(group, list) else [group])]
    assert [change for change in changes if change[0] != "modify_comment"] == []


def test_migrated_database_equals_one_created_from_the_tables(engine: Engine, empty_url: str) -> None:
    made = create_engine(empty_url)
    metadata.create_all(made)
    assert schema(engine) == schema(made)
    made.dispose()


def test_sequence_numbers_of_sqlite_are_never_used_again(sqlite_url: str) -> None:
    with create_engine(sqlite_url).connect() as connection:
        query = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name"
        assert connection.exec_driver_sql(query).scalars().all() == [
            "audit",
            "dataset_versions",
            "events",
            "jobs",
            "sweeps",
        ]


def at_version(url: str, version: str) -> Engine:
    """Migrate a database up or down to a version, and return an engine for it."""
    migrate(parse_url(url), version)
    return create_engine(url)


@pytest.mark.representative
def test_earlier_jobs_are_fits_and_their_numbers_are_not_used_again(empty_url: str) -> None:
    url = empty_url
    row = {
        "name": "old", "status": "queued", "priority": 0, "cpus": 1, "gpus": 0, "created_at": 1.0, "not_before": 1.0,
        "attempt": 0, "failures": 0, "events_offset": 0, "config": "{}",
    }  # fmt: skip
    insert = f"INSERT INTO jobs (id, {', '.join(row)}) VALUES (:id, {', '.join(f':{name}' for name in row)})"
    with at_version(url, "0001").begin() as connection:
        for job_id in ("a", "b", "c"):
            connection.execute(text(insert), {**row, "id": job_id})
        connection.execute(text("DELETE FROM jobs WHERE id = 'c'"))
    store = JobStore(open_database(url))
    assert [(job.id, job.kind) for job in store.page()] == [("b", "fit"), ("a", "fit")]
    assert store.submit(NewJob("new", {}, 0, 1, 0, kind="batch_prediction"))[0].number == 4
    with at_version(url, "0001").connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 3
    assert [job.kind for job in JobStore(open_database(url)).page()] == ["fit"] * 3


def test_versions_form_one_chain_in_the_order_of_their_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    versions = list(ScriptDirectory.from_config(config).walk_revisions())
    names = [Path(version.path).name.partition("_")[0] for version in versions]
    assert [version.revision for version in versions] == names == sorted(names, reverse=True)
    assert names[0] == newest_schema()


def test_installed_wheel_finds_its_migrations(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    script = "import sys, service.store.database as d; print(d.__file__); d.open_database(sys.argv[1])"
    environment = {**child_environment(), "PYTHONPATH": str(tmp_path / "installed")}
    arguments = [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'service.db'}"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    made = create_engine(f"sqlite:///{tmp_path / 'service.db'}")
    assert set(metadata.tables) == set(schema(made))
