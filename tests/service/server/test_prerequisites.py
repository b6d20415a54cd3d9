"""What is missing for a service is reported before its processes start."""

from pathlib import Path

import pytest

from service.server.children import ServeError
from service.server.prerequisites import listening
from service.settings import Settings


@pytest.mark.parametrize("host", ["ä..b", "192.0.2.1"])
def test_address_at_which_nobody_can_listen_is_reported(host: str, tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, host=host, port=0)
    with (
        pytest.raises(ServeError, match=rf"cannot listen on {host}:0 \(.+\); choose another --host"),
        listening(settings),
    ):
        pass
