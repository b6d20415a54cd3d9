"""Connections between the launchers of nodes."""

import socket

import pytest

from pipelines.nodes import link as links
from pipelines.nodes.link import MAX_LINE_BYTES, Link


def received(link: Link, number: int) -> list[object]:
    found: list[object] = []
    while len(found) < number and not link.is_lost:
        found += link.receive()
    return found


def test_messages_arrive_whole_and_in_order_without_beats(pair: tuple[Link, socket.socket]) -> None:
    link, other = pair
    other.sendall(b'{"kind": "a", "n": 1}\n{"kind": "beat"}\n{"kind"')
    assert received(link, 1) == [{"kind": "a", "n": 1}]
    other.sendall(b': "b"}\n')
    assert received(link, 1) == [{"kind": "b"}]
    link.send({"kind": "c"})
    assert other.recv(100) == b'{"kind": "c"}\n'


def test_closed_connection_is_lost_after_its_last_messages(pair: tuple[Link, socket.socket]) -> None:
    link, other = pair
    other.sendall(b'{"kind": "end"}\n')
    other.close()
    assert received(link, 2) == [{"kind": "end"}]
    assert (link.is_lost, link.reason) == (True, "its connection was closed")
    link.send({"kind": "ignored"})


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\n", b"[]\n", b'{"n": 1}\n', b"x" * (2 * MAX_LINE_BYTES + 1)])
def test_anything_but_messages_ends_the_connection(sent: bytes, pair: tuple[Link, socket.socket]) -> None:
    link, other = pair
    other.sendall(sent)
    assert received(link, 1) == []
    assert link.is_lost


def test_silence_of_the_other_side_is_noticed(
    pair: tuple[Link, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, other = pair
    link.beat()
    assert not link.is_lost
    monkeypatch.setattr(links, "LOST_S", -1.0)
    link.beat()
    assert (link.is_lost, link.reason) == (True, "it has been silent for -1 s")
    assert other.recv(100) == b""
