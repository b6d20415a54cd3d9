"""`pyramidion migrate` on a database of SQLite."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from service.cli import main
from service.store.schema import newest_schema

Output = pytest.CaptureFixture[str]


def test_database_is_migrated_up_and_down(tmp_path: Path, capsys: Output) -> None:
    arguments = ["migrate", "--database-url", f"sqlite:///{tmp_path / 'service.db'}"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert main([*arguments, "0003", "--down"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"schema none -> {newest_schema()}",
        f"schema {newest_schema()}: nothing to do",
        f"schema {newest_schema()} -> 0003",
    ]
    assert not inspect(create_engine(arguments[-1])).has_table("supervisor_leases")


@pytest.mark.parametrize(
    ("more", "message"),
    [(["0001"], "repeat the command with --down"), (["9999"], "unknown schema version '9999'; choose one of 0001, ")],
)
def test_older_and_unknown_versions_are_refused(tmp_path: Path, capsys: Output, more: list[str], message: str) -> None:
    arguments = ["migrate", "--database-url", f"sqlite:///{tmp_path / 'service.db'}"]
    assert main(arguments) == 0
    assert main([*arguments, *more]) == 78
    assert message in capsys.readouterr().err
