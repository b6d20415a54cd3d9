"""The schema created by the migrations is the schema that the code reads and writes."""

import subprocess
import sys
import zipfile
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from service import migrations
from service.child_process import child_environment
from service.store.database import newest_schema
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
    assert set(metadata.tables) < set(schema(made))
