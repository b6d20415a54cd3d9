"""`pyramidion keys`, which works on the database of a service."""

import json
import time
from pathlib import Path

import pytest

from service.cli import main
from service.keys.key_text import hash_of, id_of
from service.store.api_keys import KeyStore
from service.store.audit import AuditLog
from service.store.database import open_database


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYRAMIDION_ROOT", str(tmp_path))
    monkeypatch.delenv("PYRAMIDION_DATABASE_URL", raising=False)
    return tmp_path


def store(root: Path) -> KeyStore:
    return KeyStore(open_database(f"sqlite:///{root / 'service.db'}"))


def test_created_key_is_printed_once_and_only_its_hash_is_stored(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scopes = ["--scope", "jobs:read", "--scope", "jobs:write"]
    assert main(["keys", "create", "ci", *scopes, "--tenant", "blue", "--expires", "90d", "--queued-jobs", "5"]) == 0
    text, notes = capfd.readouterr()
    text = text.strip()
    [key] = store(root).all()
    assert (key.id, key.secret_hash) == (id_of(text), hash_of(text))
    assert (key.name, key.tenant, sorted(key.scopes)) == ("ci", "blue", ["jobs:read", "jobs:write"])
    assert (key.limits.queued_jobs, key.limits.storage_bytes) == (5, None)
    assert key.expires_at == pytest.approx(time.time() + 90 * 86_400, abs=600)
    assert (key.id in notes, text in notes) == (True, False)
    secret = text[17:]
    assert secret.encode() not in b"".join(path.read_bytes() for path in root.iterdir())


def test_keys_are_listed_without_secrets(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store(root)
    assert main(["keys", "list"]) == 0
    assert capfd.readouterr().out.startswith("no keys")
    main(["keys", "create", "ci", "--scope", "admin"])
    text = capfd.readouterr().out.strip()
    assert main(["keys", "list"]) == 0
    assert main(["keys", "list", "--json"]) == 0
    listed = capfd.readouterr().out
    assert text[:16] in listed
    assert text not in listed
    assert hash_of(text) not in listed
    assert json.loads(listed[listed.index("[\n") :])[0]["is_usable"] is True


@pytest.mark.parametrize("which", ["name", "prefix", "text"])
def test_key_is_revoked_by_its_name_prefix_or_text(root: Path, which: str, capfd: pytest.CaptureFixture[str]) -> None:
    main(["keys", "create", "ci", "--scope", "admin"])
    text = capfd.readouterr().out.strip()
    name = {"name": "ci", "prefix": text[:16], "text": text}[which]
    assert main(["keys", "revoke", text[:16] if which == "prefix" else name]) == 0
    [key] = store(root).all()
    assert (key.revoked_at is not None, key.is_usable) == (True, False)
    rows = AuditLog(open_database(f"sqlite:///{root / 'service.db'}")).page()
    assert [(row.action, row.target) for row in rows] == [("key.revoke", key.id), ("key.create", key.id)]
    capfd.readouterr()
    assert rows[0].actor.endswith("(shell)")
    assert main(["audit", "--json", "--limit", "1"]) == 0
    assert [row["action"] for row in json.loads(capfd.readouterr().out)] == ["key.revoke"]
    assert main(["audit"]) == 0
    assert "key.create" in capfd.readouterr().out


def test_mistakes_are_reported(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["keys", "create", "twin", "--scope", "admin"])
    capfd.readouterr()
    for arguments, message in (
        (["create", "a b", "--scope", "admin"], "error: NAME: got 'a b'; use up to 64 letters"),
        (["create", "a", "--scope", "admin", "--tenant", "x/y"], "error: --tenant: got 'x/y'"),
        (["create", "a", "--scope", "admin", "--expires", "soon"], "error: --expires: got 'soon'; write a life such"),
        (["create", "a", "--scope", "admin", "--expires", "999999w"], "error: --expires: is after the year 9998"),
        (["create", "a", "--scope", "admin", "--expires", "2020-01-01"], "error: --expires: got '2020-01-01', which"),
        (["revoke", "nobody"], "error: KEY: no usable key has this name or id"),
        (["revoke", "twin"], "error: KEY: got 'twin', the name of 2 keys; choose one of pyr_"),
    ):
        assert main(["keys", *arguments]) == 78, arguments
        assert message in capfd.readouterr().err
    assert main(["keys", "create", "a", "--scope", "adm"]) == 2
    assert main(["keys", "create", "a"]) == 2
    assert len(store(root).all()) == 2


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revoke", "ci"], ["audit"]])
def test_mistyped_root_is_refused_instead_of_becoming_a_service(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--root", str(tmp_path / "typo")]) == 78
    assert "has no service.db; name the root of a service" in capfd.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("command", [["keys", "list"], ["audit"], ["gc"], ["backup", "folder"], ["restore", "folder"]])
def test_unusable_database_url_is_an_error_without_a_traceback(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--database-url", "unknown://host/database"]) == 78
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
