"""A connection between the launchers of two nodes: messages as lines of JSON, and beats that show a silent loss."""

import json
import socket
import time
from typing import Any

Message = dict[str, Any]
"""`kind`, and what belongs to it."""

BEAT_S = 2.0
"""Pause between two beats."""
LOST_S = 20.0
"""Time without any byte after which the other node counts as lost."""
MAX_LINE_BYTES = 65_536

BEAT: Message = {"kind": "beat"}


class Link:
    """One connection.

    Attributes:
        is_lost: whether it is closed, or the other side has been silent for too long.
        reason: why it is lost.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_lost = False
        self.reason = ""
        self._connection = connection
        self._unread = b""
        self._heard = self._beaten = time.monotonic()

    def fileno(self) -> int:
        """Return the file descriptor, for `select`."""
        return self._connection.fileno()

    def send(self, message: Message) -> None:
        """Send a message; it is lost with the connection."""
        if self.is_lost:
            return
        try:
            # Messages are few and short, so that they fit the kernel's buffer unless the other side is gone.
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self._lose(error.strerror or str(error))

    def receive(self) -> list[Message]:
        """Return the messages that have arrived since the last call, without beats; does not wait."""
        try:
            while not self.is_lost:
                received = self._connection.recv(MAX_LINE_BYTES)
                self._heard = time.monotonic()
                self._unread += received
                if not received:
                    self._lose("its connection was closed")
                elif len(self._unread) > 2 * MAX_LINE_BYTES:
                    self._lose("it sent more than a message")
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error.strerror or str(error))
        *lines, self._unread = self._unread.split(b"\n")
        return [message for line in lines if (message := self._parsed(line))["kind"] != BEAT["kind"]]

    def beat(self) -> None:
        """Send a beat if one is due, and notice the silence of the other side."""
        now = time.monotonic()
        if now - self._beaten >= BEAT_S:
            # A launcher that was stopped for a while has not listened either.
            if now - self._beaten >= LOST_S / 2:
                self._heard = now
            self._beaten = now
            self.send(BEAT)
        if now - self._heard > LOST_S:
            self._lose(f"it has been silent for {LOST_S:.0f} s")

    def close(self) -> None:
        """Close the connection."""
        self._lose("it was closed here")

    def _parsed(self, line: bytes) -> Message:
        try:
            message = json.loads(line)
            if isinstance(message, dict) and isinstance(message.get("kind"), str):
                return message
        except ValueError:
            pass
        self._lose("it sent something else than messages")
        return BEAT

    def _lose(self, reason: str) -> None:
        if not self.is_lost:
            self.is_lost, self.reason = True, reason
            self._connection.close()
