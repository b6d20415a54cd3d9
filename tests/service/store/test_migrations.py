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
from sqlalchemy import Engine, create_engine, inspect

from service import migrations
from service.child_process import child_environment
from service.store.schema import newest_schema
from service.store.tables import metadata

ROOT = Path(__file__).resolve().parents[3]


def schema(engine: Engine) -> dict[str, object]:
    """Return the columns, keys, constraints and indexes of each table, without their order, by name."""
    inspector = inspect(engine)

    def by_name(items: Iterable[Mapping[str, Any]]) -> list[str]:
        # Comments are for readers of the code: migrations keep those of their time.
        return sorted(str({key: text(value) for key, value in item.items() if key != "comment"}) for item in items)

    def text(value: Any) -> str:
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
        assert connection.exec_driver_sql(query).scalars().all() == ["events", "jobs"]


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
    command = [sys.executable, "-c", script, f"sqlite:///{tmp_path / 'service.db'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
    made = create_engine(f"sqlite:///{tmp_path / 'service.db'}")
    assert set(metadata.tables) == set(schema(made))
