"""A link and the other end of its connection."""

import socket
from collections.abc import Iterator

import pytest

from pipelines.nodes.link import Link


@pytest.fixture
def pair() -> Iterator[tuple[Link, socket.socket]]:
    """Return a link and the other end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        theirs.settimeout(10)
    link = Link(ours)
    yield link, theirs
    link.close()
    theirs.close()
