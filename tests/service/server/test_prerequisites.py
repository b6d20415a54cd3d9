"""Who may use a service at an address, and whether it can be listened at."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from service.child_process import child_environment
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.server.children import ServeError
from service.server.prerequisites import check_access, listening
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database


def check(tmp_path: Path, **values: Any) -> None:
    settings = Settings(root=tmp_path, gpus=0, **values)
    check_access(settings, child_environment({**os.environ, **settings.environment()}))


def test_address_of_other_machines_needs_a_key_that_exists_or_is_required(tmp_path: Path) -> None:
    check(tmp_path)
    check(tmp_path, host="0.0.0.0", require_keys=True)
    with pytest.raises(ConfigError, match=r"got '0\.0\.0\.0', at which other machines reach .* no key was found"):
        check(tmp_path, host="0.0.0.0")
    keys = Keys(KeyStore(open_database(Settings(root=tmp_path).url_of_database)))
    keys.create(LOCAL_USER, "first", [Scope.ADMIN])
    check(tmp_path, host="0.0.0.0")
    with pytest.raises(ConfigError, match="omit --require-keys false"):
        check(tmp_path, host="0.0.0.0", require_keys=False)


def test_service_that_is_opened_on_purpose_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(tmp_path, require_keys=False)
    assert "may do everything without a key, because of --require-keys false" in capfd.readouterr().err


@pytest.mark.parametrize("host", ["ä..b", "192.0.2.1"])
def test_address_at_which_nobody_can_listen_is_reported(host: str, tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, host=host, port=0)
    with (
        pytest.raises(ServeError, match=rf"cannot listen on {host}:0 \(.+\); choose another --host"),
        listening(settings),
    ):
        pass
