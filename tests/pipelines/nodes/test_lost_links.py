"""A node whose connection ends while a message is sent to it, not while one is awaited."""

import socket
from collections.abc import Iterator

import pytest

from pipelines.base.errors import RankError
from pipelines.base.signals import CountedSignals
from pipelines.nodes.first_node import FirstNode
from pipelines.nodes.link import Link
from pipelines.nodes.node_process import NodeProcess
from pipelines.nodes.other_node import OtherNode
from pipelines.nodes.settings import NodeSettings

HOST = "127.0.0.1"


@pytest.fixture
def lost(pair: tuple[Link, socket.socket]) -> Link:
    """Return a link whose last message could not be sent."""
    link, _ = pair
    link._connection.shutdown(socket.SHUT_WR)
    link.send({"kind": "stop"})
    assert link.is_lost
    return link


@pytest.fixture
def first() -> Iterator[FirstNode]:
    node = FirstNode(["true"], NodeSettings(0, 3, HOST))
    yield node
    node._say_goodbye()
    node._process.remove()


def test_first_node_reports_a_node_that_a_message_did_not_reach(first: FirstNode, lost: Link) -> None:
    first._links[lost] = 1
    first._receive()
    error = first._process.folder.fault()
    assert str(error).startswith("node 1 of this run was lost: ")
    assert not first._links


def test_other_node_reports_a_first_node_that_a_message_did_not_reach(lost: Link) -> None:
    process = NodeProcess(["true"], NodeSettings(1, 2, HOST), f"{HOST}:1", "lo")
    with pytest.raises(RankError, match="the first node of this run was lost: "):
        OtherNode(process, lost).run(CountedSignals())
