"""The launcher of another node than the first: it runs the command when the first node says so, and ends with it."""

import math
import select
import socket
import sys
import time
from collections.abc import Sequence

from pipelines.base.errors import ConfigError, ExitCode, FieldProblem, RankError, error_text
from pipelines.base.signals import CountedSignals
from pipelines.nodes.folder import STOP, fault_of
from pipelines.nodes.interfaces import interface_of
from pipelines.nodes.link import Link, Message
from pipelines.nodes.node_process import END_S, NodeProcess
from pipelines.nodes.settings import ADDRESS_VARIABLE, INTERFACE_VARIABLE, NodeSettings

POLL_S = 0.05
CONNECT_S = 600.0
"""Time that the first node has to listen."""
RETRY_S = 1.0


class OtherNode:
    """A node of a run, except the first. All of its state belongs to one loop, `_follow`."""

    def __init__(self, process: NodeProcess, link: Link) -> None:
        self._process = process
        self._link = link
        self._is_here = self._is_stopping = self._has_reported = False
        self._end_code: int | None = None
        self._end_by = math.inf

    def run(self, signals: CountedSignals) -> int:
        """Run the command when the first node starts, until the run has ended; return the exit code of the run.

        Raises:
            RankError: the first node was lost.
            ConfigError: it refuses this one.
        """
        try:
            return self._follow(signals)
        finally:
            self._process.kill()
            self._process.remove()
            self._link.close()

    def _follow(self, signals: CountedSignals) -> int:
        while self._end_code is None:
            if self._link.is_lost:
                raise self._first_is_lost()
            select.select([self._link], [], [], POLL_S)
            self._link.beat()
            for message in self._link.receive():
                self._handle(message)
            self._report(signals)
            if time.monotonic() > self._end_by:
                self._process.kill()
        self._process.end()
        return self._end_code

    def _handle(self, message: Message) -> None:
        folder = self._process.folder
        if message["kind"] == "refused":
            raise ConfigError(FieldProblem(ADDRESS_VARIABLE, message["message"]))
        if message["kind"] == "start":
            self._process.start(message["environment"])
        elif message["kind"] in ("all-here", "stop"):
            self._is_stopping |= message["kind"] == STOP
            folder.mark(message["kind"])
        elif message["kind"] == "fault":
            folder.write_fault({name: message[name] for name in ("message", "exit_code", "failure_kind")})
            self._end_by = time.monotonic() + END_S
        elif message["kind"] == "end":
            code = int(message["exit_code"])
            self._end_code = code if code >= 0 else 128 - code
            if self._end_code != 0:
                error = RankError(f"the first node has ended the run with code {self._end_code}", self._end_code)
                folder.write_fault(fault_of(error))
                _print(error_text(folder.fault() or error))

    def _report(self, signals: CountedSignals) -> None:
        """Report to the first node what has happened here."""
        folder = self._process.folder
        if not self._is_here and folder.has("here"):
            self._is_here = True
            self._link.send({"kind": "here"})
        if (signals.number or folder.has(STOP)) and not self._is_stopping:
            self._is_stopping = True
            self._link.send({"kind": "stop"})
        if signals.num_interrupts > 1:
            raise KeyboardInterrupt
        if not self._has_reported and self._process.poll() is not None:
            self._has_reported = True
            ending = fault_of(RankError("", 0)) if self._process.exit_code == 0 else self._process.ending()
            self._link.send({"kind": "ended", **ending})

    def _first_is_lost(self) -> RankError:
        error = RankError(f"the first node of this run was lost: {self._link.reason}")
        self._process.folder.write_fault(fault_of(error))
        self._process.end()
        return error


def run_other_node(command: Sequence[str], settings: NodeSettings, signals: CountedSignals) -> int:
    """Join the run of the first node; return its exit code.

    Raises:
        RankError: the first node was lost.
        ConfigError: it cannot be reached, or refuses this node.
    """
    connection = _connect(settings, signals)
    if connection is None:
        return ExitCode.STOPPED
    own_address = connection.getsockname()[0]
    interface = settings.interface or interface_of(own_address)
    if interface is None:
        raise ConfigError(FieldProblem(INTERFACE_VARIABLE, f"is not set, and no interface has {own_address}"))
    address = f"{connection.getpeername()[0]}:{settings.port}"
    link = Link(connection)
    link.send({"kind": "hello", "rank": settings.rank, "num_nodes": settings.num_nodes})
    _print(f"node {settings.rank} of {settings.num_nodes} is connected to {address}")
    return OtherNode(NodeProcess(command, settings, address, interface), link).run(signals)


def _connect(settings: NodeSettings, signals: CountedSignals) -> socket.socket | None:
    """Return a connection to the first node, which may start later; None if a stop was requested meanwhile."""
    deadline = time.monotonic() + CONNECT_S
    while not signals.number:
        try:
            return socket.create_connection((settings.host, settings.port), timeout=10)
        except OSError as error:
            if time.monotonic() > deadline:
                problem = f"got {settings.host}:{settings.port}, where no first node has answered for {CONNECT_S:.0f} s"
                problem += f" ({error.strerror or error}); start node 0 there, and open the port between the nodes"
                raise ConfigError(FieldProblem(ADDRESS_VARIABLE, problem)) from error
            time.sleep(RETRY_S)
    return None


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
