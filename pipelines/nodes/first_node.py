"""The launcher of the first node: it runs the command, lets the other nodes start, and ends all of them."""

import select
import socket
import sys
import time
from collections.abc import Sequence

from pipelines.base.errors import ConfigError, ExitCode, FieldProblem, RankError, error_text
from pipelines.base.signals import CountedSignals
from pipelines.nodes.folder import STOP, Fault, fault_of
from pipelines.nodes.interfaces import address_of, interface_of
from pipelines.nodes.link import Link, Message
from pipelines.nodes.node_process import NodeProcess
from pipelines.nodes.settings import ADDRESS_VARIABLE, INTERFACE_VARIABLE, NodeSettings

POLL_S = 0.05
CONNECT_S = 600.0
"""Time that the other nodes have to connect once the first one is ready."""
HANG_S = 30.0
"""Time that the first process has to end by itself after a fault on another node: it may be writing to MLflow."""
LATE_S = 5.0
"""Time that the other nodes have to connect to a run that has ended early, so that they end too."""
GOODBYE_S = 5.0
"""Time that the other nodes have to notice the end of the run and close their connections."""


class FirstNode:
    """Node 0 of a run. All of its state belongs to one loop, `run`."""

    def __init__(self, command: Sequence[str], settings: NodeSettings) -> None:
        self._settings = settings
        self._listener, address, interface = _listen(settings)
        self._process = NodeProcess(command, settings, address, interface)
        self._address = address
        self._links: dict[Link, int | None] = {}  # with the number of the node, once it has introduced itself
        self._have_connected: set[int] = set()
        self._are_here: set[int] = set()
        self._order: dict[str, str] | None = None
        self._ready_at = 0.0
        self._is_stopping = False
        self._fault: Fault | None = None
        self._fault_at = 0.0
        self._code: int = ExitCode.INTERRUPTED

    def run(self, signals: CountedSignals) -> int:
        """Run the command to its end on all nodes; return its exit code, negative for a signal."""
        others = self._settings.num_nodes - 1
        _print(f"node 0 of {others + 1} listens on {self._address} for {others} more")
        try:
            self._process.start({})
            while (code := self._process.poll()) is None:
                self._receive()
                self._advance()
                self._pass_on_stop(signals)
                if self._fault and time.monotonic() > self._fault_at + HANG_S:
                    _print(error_text(RankError(**self._fault)))
                    code = int(self._fault["exit_code"])
                    break
            if code < 0:
                _print(error_text(RankError(**self._process.ending())))
            self._code = code
            return code
        finally:
            self._process.kill()
            self._await_late_nodes(signals)
            self._say_goodbye()
            self._process.remove()

    def _receive(self) -> None:
        """Accept connections and read messages, for at most `POLL_S`."""
        # A link may be lost since the last call, by a message that could not be sent; it has no socket any more.
        sockets: list[socket.socket | Link] = [self._listener, *(link for link in self._links if not link.is_lost)]
        readable, _, _ = select.select(sockets, [], [], POLL_S)
        if self._listener in readable:
            self._links[Link(self._listener.accept()[0])] = None
        for link in list(self._links):
            link.beat()
            for message in link.receive():
                if (rank := self._links[link]) is None:
                    self._welcome(link, message)
                else:
                    self._handle(rank, message)
            if link.is_lost and (rank := self._links.pop(link)) is not None:
                self._fail(f"node {rank} of this run was lost: {link.reason}")

    def _welcome(self, link: Link, message: Message) -> None:
        """Take a node that introduces itself, or refuse it."""
        rank, num_nodes, expected = message.get("rank"), message.get("num_nodes"), self._settings.num_nodes
        if num_nodes != expected:
            problem = f"the first node has {expected} nodes, but this one {num_nodes}"
        elif rank in self._links.values():
            problem = f"another node {rank} is connected already; give each node a number of its own"
        elif not isinstance(rank, int) or not 0 < rank < expected:
            problem = f"the other nodes are 1 to {expected - 1}, but this one is {rank}"
        else:
            self._links[link] = rank
            self._have_connected.add(rank)
            _print(f"node {rank} of {expected} has connected")
            if self._order is not None:
                link.send({"kind": "start", "environment": self._order})
            return
        link.send({"kind": "refused", "message": problem})
        link.close()

    def _handle(self, rank: int, message: Message) -> None:
        if message["kind"] == "here":
            self._are_here.add(rank)
        elif message["kind"] == "stop":
            self._stop()
        elif message["kind"] == "ended":
            self._handle_end(rank, message)

    def _handle_end(self, rank: int, message: Message) -> None:
        """Let the run end with the command of another node, unless it has ended in good order."""
        if not self._process.folder.has("all-here") and message["exit_code"] == ExitCode.DONE:
            self._fail(f"the command of node {rank} has ended before the run has started; run the same on all nodes")
        # All processes agree on a stop, but the first one may still be writing its checkpoint.
        elif message["exit_code"] not in (ExitCode.DONE, ExitCode.STOPPED):
            self._fail(**{name: message[name] for name in ("message", "exit_code", "failure_kind")})

    def _advance(self) -> None:
        """Pass on what the processes of this node have left in the folder."""
        folder = self._process.folder
        if self._order is None and (order := folder.order()) is not None:
            self._order, self._ready_at = order, time.monotonic()
            self._send_all({"kind": "start", "environment": order})
        missing = set(range(1, self._settings.num_nodes)) - set(self._links.values())
        if missing and self._order is not None and time.monotonic() > self._ready_at + CONNECT_S:
            self._fail(f"nodes {sorted(missing)} have not connected to {self._address} within {CONNECT_S:.0f} s")
        are_all_here = folder.has("here") and len(self._are_here) == self._settings.num_nodes - 1
        if are_all_here and not folder.has("all-here"):
            folder.mark("all-here")
            self._send_all({"kind": "all-here"})

    def _pass_on_stop(self, signals: CountedSignals) -> None:
        if signals.number and not self._is_stopping:
            self._stop()
        if signals.num_interrupts > 1:
            raise KeyboardInterrupt
        if self._process.folder.has(STOP) and not self._is_stopping:
            self._is_stopping = True
            self._send_all({"kind": "stop"})

    def _stop(self) -> None:
        """Let the first process of the run stop, which agrees with all others on the place."""
        self._is_stopping = True
        self._process.ask_to_stop()
        self._send_all({"kind": "stop"})

    def _fail(self, message: str, exit_code: int = 1, failure_kind: str = "internal") -> None:
        """Let all nodes end, unless the first process no longer needs the others."""
        if self._fault is None and not self._process.folder.has("closed"):
            self._fault = fault_of(RankError(message, exit_code, failure_kind))
            self._fault_at = time.monotonic()
            self._process.folder.write_fault(self._fault)
            self._send_all({"kind": "fault", **self._fault})

    def _send_all(self, message: Message) -> None:
        for link, rank in self._links.items():
            if rank is not None:
                link.send(message)

    def _await_late_nodes(self, signals: CountedSignals) -> None:
        """Let nodes that start later connect, because they would wait for this one."""
        self._order = None  # it would start their commands
        num_others, deadline = self._settings.num_nodes - 1, time.monotonic() + LATE_S
        while len(self._have_connected) < num_others and signals.num_interrupts < 2 and time.monotonic() < deadline:
            self._receive()

    def _say_goodbye(self) -> None:
        self._send_all({"kind": "end", "exit_code": self._code})
        deadline = time.monotonic() + GOODBYE_S
        while (links := [link for link in self._links if not link.is_lost]) and time.monotonic() < deadline:
            select.select(links, [], [], POLL_S)
            for link in links:
                link.receive()
        for link in links:
            link.close()
        self._listener.close()


def _listen(settings: NodeSettings) -> tuple[socket.socket, str, str]:
    """Return a socket that listens on this node's address only, this address, and the interface that has it."""
    try:
        host = settings.host
        if settings.interface is not None:
            host = address_of(settings.interface) or host
        host = str(socket.getaddrinfo(host, settings.port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
        listener = socket.create_server((host, settings.port))
    except OSError as error:
        problem = f"got {settings.host}:{settings.port}, where this node cannot listen ({error.strerror}); "
        problem += "write an IPv4 address of the first node, and a free port"
        raise ConfigError(FieldProblem(ADDRESS_VARIABLE, problem)) from error
    interface = settings.interface or interface_of(host)
    if interface is None:
        raise ConfigError(FieldProblem(INTERFACE_VARIABLE, f"is not set, and no interface of this node has {host}"))
    return listener, f"{host}:{settings.port}", interface


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
