"""The schema created by the migrations is the schema that the code reads and writes."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

from service import migrations
from service.child_process import child_environment
from service.store.database import newest_schema, open_database
from service.store.jobs import JobStore
from service.store.records import NewJob
from service.store.tables import metadata

ROOT = Path(__file__).resolve().parents[3]


def schema(engine: Engine) -> dict[str, str]:
    """Return the SQL of each table and index, by name."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    # SQLite quotes the name of a table that was renamed.
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows if name != "alembic_version"}


def test_alembic_finds_no_difference_between_a_migrated_database_and_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_migrated_database_equals_one_created_from_the_tables(engine: Engine, tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)
    assert schema(engine) == schema(made)


def at_version(url: str, version: str, step: Callable[..., None] = command.upgrade) -> Engine:
    """Migrate a database with Alembic as `open_database` does, and return an engine for it."""
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step(config, version)
    return engine


def test_earlier_jobs_are_fits_and_their_numbers_are_not_used_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
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
    with at_version(url, "0001", command.downgrade).connect() as connection:
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
    assert set(metadata.tables) < set(schema(made))
