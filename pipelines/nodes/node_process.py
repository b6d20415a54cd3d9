"""The command that the launcher of a node runs on it, with the folder that the two share. Torch-free."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from pipelines.base.errors import RankError
from pipelines.base.process_folder import ProcessFolder, remove_abandoned_folders
from pipelines.base.ranks import LOCAL_RANK, NODE_FOLDER, NODE_RANK, NUM_NODES
from pipelines.base.signals import held_stop_signals, signal_name
from pipelines.nodes.folder import Fault, NodeFolder, fault_of, read_error
from pipelines.nodes.settings import ADDRESS_VARIABLE, NodeSettings

END_S = 10.0
"""Time that the command has to end by itself, once the run has ended or must end on all nodes."""


class NodeProcess:
    """One run of the command.

    Attributes:
        folder: shared with the command and its children.
        exit_code: of the command, negative for a signal; None while it runs, and before it starts.
    """

    def __init__(self, command: Sequence[str], settings: NodeSettings, address: str, interface: str) -> None:
        remove_abandoned_folders()
        self._held = ProcessFolder()
        self.folder = NodeFolder(self._held.path)
        self.exit_code: int | None = None
        self._command = tuple(command)
        self._rank = settings.rank
        self._environment = {
            NODE_FOLDER: str(self.folder.path),
            NODE_RANK: str(settings.rank),
            NUM_NODES: str(settings.num_nodes),
            ADDRESS_VARIABLE: address,
            "GLOO_SOCKET_IFNAME": interface,
            "NCCL_SOCKET_IFNAME": f"={interface}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """True if it was started, and `poll` has not seen its end."""
        return self._process is not None and self.exit_code is None

    def start(self, more: Mapping[str, str]) -> None:
        """Start the command with the environment of this process, changed by that of this run and by `more`."""
        environment = {**os.environ, **more, **self._environment}
        environment.pop(LOCAL_RANK, None)
        # The command releases the signals as soon as it can handle them.
        with held_stop_signals():
            self._process = subprocess.Popen(self._command, env=environment)

    def poll(self) -> int | None:
        """Look whether the command has ended; return its exit code, None if it has not, or was not started."""
        if self._process is not None and self.exit_code is None:
            self.exit_code = self._process.poll()
        return self.exit_code

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command; its children notice that within a second, and end."""
        if self.is_running:
            assert self._process is not None
            self._process.kill()
            self.exit_code = self._process.wait()

    def end(self) -> None:
        """Wait for the end of the command; kill it if that takes longer than `END_S`."""
        deadline = time.monotonic() + END_S
        while self.poll() is None and self.is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def ending(self) -> Fault:
        """Return the error that has ended the command, as far as it is known."""
        assert self.exit_code is not None
        if reported := read_error(self.folder.path, 0):
            return fault_of(reported)
        code, where = self.exit_code, f"node {self._rank} of this run"
        if code >= 0:
            return fault_of(RankError(f"{where} exited with code {code}; see its output", code))
        hint = " (memory may have run out)" if code == -signal.SIGKILL else ""
        return fault_of(RankError(f"a process of {where} was terminated by {signal_name(-code)}{hint}"))

    def remove(self) -> None:
        """Remove the folder."""
        self._held.remove()
