"""API keys in the database, and the limit on the jobs that wait for each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from service.principal import LOCAL_USER, KeyLimits, Principal
from service.scopes import Scope
from service.store.api_keys import USE_INTERVAL_S, ApiKey, KeyStore
from service.store.audit import AuditLog
from service.store.errors import KeyUnknown, QueueLimit
from service.store.jobs import JobStore
from service.store.records import NewJob


@pytest.fixture
def keys(engine: Engine) -> KeyStore:
    return KeyStore(engine)


def create(keys: KeyStore, key_id: str = "a" * 12, **options: object) -> ApiKey:
    values = {"name": "ci", "tenant": "blue", "scopes": [Scope.JOBS_WRITE], "expires_at": None, "limits": KeyLimits()}
    return keys.create(key_id, "hash", by=LOCAL_USER, **{**values, **options})  # type: ignore[arg-type]


def test_last_use_is_written_at_most_once_a_minute(keys: KeyStore) -> None:
    key = create(keys)
    for moment, recorded in (
        (1000.0, 1000.0),
        (1000.0 + USE_INTERVAL_S / 2, 1000.0),
        (2000.0, 2000.0),
        (900.0, 2000.0),
    ):
        keys.record_use(key.id, moment)
        assert keys.all()[0].last_used_at == recorded


def test_revoking_again_changes_nothing_and_an_unknown_key_is_reported(keys: KeyStore, engine: Engine) -> None:
    key = create(keys, limits=KeyLimits(1, 2, 3 << 40))
    assert (keys.all(), key.is_usable, "hash" in repr(key)) == ([key], True, False)
    revoked = keys.revoke(key.id, LOCAL_USER)
    assert keys.revoke(key.id, LOCAL_USER) == revoked == keys.all()[0]
    assert not revoked.is_usable
    assert [row.action for row in AuditLog(engine).page()] == ["key.revoke", "key.create"]
    with pytest.raises(KeyUnknown, match="no key has the id 'nobody'"):
        keys.revoke("nobody", LOCAL_USER)


def test_scope_of_a_newer_version_permits_nothing(keys: KeyStore, engine: Engine) -> None:
    create(keys)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE api_keys SET scopes = '["jobs:read", "rockets:launch"]'"""))
    assert keys.all()[0].scopes == {Scope.JOBS_READ}


@pytest.mark.representative
def test_submissions_at_once_do_not_exceed_the_limit_of_their_key(
    keys: KeyStore, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    create(keys)
    by = Principal("ci", "blue", frozenset({Scope.JOBS_WRITE}), "a" * 12, KeyLimits(queued_jobs=5))

    def submit(_: int) -> bool:
        try:
            return store.submit(new_job(), by=by)[0].tenant == "blue"
        except QueueLimit:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(submit, range(16))) == 5
    assert len(store.page(tenant="blue")) == 5


def test_change_made_elsewhere_has_a_row_before_and_after_it(engine: Engine) -> None:
    log = AuditLog(engine)
    number = log.start(LOCAL_USER, "model.promote", "m/champion", detail="version 2")
    assert [(row.outcome, row.detail) for row in log.page()] == [("started", "version 2")]
    log.end(number, "failed", "x" * 5000)
    assert [(row.outcome, len(row.detail or "")) for row in log.page()] == [("failed", 1000)]
    assert log.page(tenant="nobody") == []
