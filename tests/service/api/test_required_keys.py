"""When requests need a key: the setting, the address, and the keys that exist."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx2

from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def test_local_service_is_open_again_by_its_setting_although_keys_exist(serve: Serve, settings: Settings) -> None:
    keys = Keys(KeyStore(open_database(settings.url_of_database)))
    _, text = keys.create(LOCAL_USER, "reader", [Scope.JOBS_READ])
    with serve(settings.model_copy(update={"require_keys": False})) as api:
        assert api.get("/v1/jobs").status_code == 200
        assert api.post("/v1/jobs/missing/cancel").status_code == 404
        reader = {"Authorization": f"Bearer {text}"}
        assert api.post("/v1/jobs/missing/cancel", headers=reader).status_code == 403, "a key has its own scopes"
        keys.revoke(LOCAL_USER, "reader")
        assert api.get("/v1/jobs").status_code == 200
    with serve(settings) as api:
        assert api.get("/v1/jobs").status_code == 401, "the last key was revoked"


def test_address_of_other_machines_never_works_without_a_key(serve: Serve, settings: Settings) -> None:
    for require_keys in (None, False, True):
        with serve(settings.model_copy(update={"host": "0.0.0.0", "require_keys": require_keys})) as api:
            assert api.get("/v1/jobs").status_code == 401
            assert api.get("/livez").status_code == 200
