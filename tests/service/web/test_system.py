"""The page of the server's state, for administrators and for others."""

import re
from pathlib import Path

import httpx2
import pytest

from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.version import version
from tests.service.api.servers import serving
from tests.service.web.browsing import Tab
from tests.service.web.conftest import HTML, settings_below


def test_system_shows_readiness_although_it_lacks_a_supervisor(site: httpx2.Client) -> None:
    page = site.get("/system")
    assert page.status_code == 200
    assert '<span class="status failed">not ready</span>' in page.text
    assert "no supervisor is running" in page.text
    assert re.search(r"\d of 2 in use", page.text)  # other tests may have started jobs
    assert version() in page.text
    assert "There are no keys" in page.text
    assert 'name="scopes" value="jobs:read"' in page.text


@pytest.mark.integration
def test_administrator_creates_and_revokes_a_key_and_others_see_no_keys(
    tab: Tab, tmp_path: Path, migrated_path: Path
) -> None:
    settings: Settings = settings_below(tmp_path, migrated_path)
    engine = open_database(settings.url_of_database)
    keys = Keys(KeyStore(engine))
    (_, admin), (_, reader) = (
        keys.create(LOCAL_USER, name, [scope]) for name, scope in (("boss", Scope.ADMIN), ("eve", Scope.JOBS_READ))
    )
    engine.dispose()
    with serving(settings) as client:
        client.headers.update(HTML)
        other = client.get("/system", headers={"Authorization": f"Bearer {reader}"}).text
        assert "need a key with the scope <code>metrics:read</code>" in other
        assert "boss" not in other
        assert "Audit log" not in other
        page = tab.page
        tab.open(f"{client.base_url}/system")
        page.fill("input[name=key]", admin)
        page.click("button:has-text('Sign in')")
        page.wait_for_selector("#audit")
        page.click("summary:has-text('New key')")
        page.fill("#new-key input[name=name]", "ci")
        page.check("input[value='jobs:read']")
        page.check("input[value='jobs:write']")
        page.click("button:has-text('Create the key')")
        page.wait_for_selector("#new-key-text:not([hidden])")
        assert page.inner_text("#new-key-text code").startswith("pyr_")
        row = "tr[id^=key-]:has-text('ci')"
        assert "jobs:read, jobs:write" in page.inner_text(row)
        assert tab.violations() == []
        page.click(f"{row} button")
        page.wait_for_selector(f"{row} >> text=revoked")
