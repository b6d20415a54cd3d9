"""Settings of the service."""

from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from service.settings import Settings
from service.settings_secrets import SECRETS


def test_secret_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql+psycopg://service:pass@database/service\n")
    monkeypatch.setenv("PYRAMIDION_DATABASE_URL_FILE", str(file))
    assert Settings().url_of_database == "postgresql+psycopg://service:pass@database/service"
    assert "PYRAMIDION_DATABASE_URL_FILE" not in Settings().environment()


@pytest.mark.parametrize(
    ("content", "value", "message"),
    [
        (None, None, "cannot be read"),
        (" \n", None, "is empty; write the secret into it"),
        ("x", "y", "set beside PYRAMIDION_DATABASE_URL; unset one of them"),
    ],
)
def test_secret_file_that_cannot_be_used_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, value: str | None, message: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PYRAMIDION_DATABASE_URL_FILE", str(file))
    if value is not None:
        monkeypatch.setenv("PYRAMIDION_DATABASE_URL", value)
    with pytest.raises(ConfigError, match=message):
        Settings()


def test_every_secret_may_have_a_file() -> None:
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {f"PYRAMIDION_{name.upper()}" for name in secrets} <= set(SECRETS)


def test_only_secrets_have_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDION_PORT_FILE", str(tmp_path / "missing"))
    assert Settings().port == 8000


def test_cores_are_counted_by_the_quota_of_the_cgroup_too() -> None:
    assert Settings().cpus is None
