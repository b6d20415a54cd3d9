"""Ports of the loopback interface for programs that cannot choose one themselves."""

import itertools
import os
import socket
from contextlib import suppress

_CANDIDATES = itertools.count(12_000 + os.getpid() % 10_000)
"""Each process starts elsewhere. The system takes ports for outgoing connections from 32768 on, so that none is used
between the search and the start of the program; SeaweedFS adds 10,000 to each port for its own protocol."""


def unused_ports(number: int) -> list[int]:
    """Return ports that no program uses, and that this process has not returned before."""
    found: list[int] = []
    while len(found) < number:
        candidate = next(_CANDIDATES)
        with suppress(OSError), socket.create_server(("127.0.0.1", candidate)):
            found.append(candidate)
    return found
