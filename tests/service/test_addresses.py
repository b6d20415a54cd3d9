"""Addresses of this machine, and of clients behind reverse proxies."""

import pytest

from pipelines.base.errors import ConfigError
from service.addresses import TrustedProxies, is_loopback
from service.commands.serve import run


def test_loopback_is_recognized_in_every_form() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", "")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.7", [], "10.0.0.7"),
        ("10.0.0.7", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.7", ["2001:db8::1"], "2001:db8::1"),
        # Only what a trusted proxy has appended is believed.
        ("10.0.0.7", ["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.7", ["1.2.3.4", "203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        ("10.0.0.7", ["1.2.3.4, unknown"], "10.0.0.7"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_address_that_the_outermost_trusted_proxy_saw_is_the_clients(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert TrustedProxies(["10.0.0.7", "10.1.0.0/16"]).client_of(peer, forwarded) == client


def test_setting_that_is_no_address_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"--trusted-proxy: got .*10\.0\.0\.300.*write addresses such as"):
        run(["serve", "--trusted-proxy", "10.0.0.300"])
