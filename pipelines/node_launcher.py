"""`python -m pipelines.node_launcher COMMAND...`: runs one command on all nodes of a run; start it on each of them.

Environment variables say which node this is; docs/nodes.md lists them. On one node, the command replaces this process.
Torch-free.
"""

import os
import signal
import sys
from collections.abc import Sequence

from pipelines.base.errors import ExitCode
from pipelines.base.exit_codes import exit_code_of
from pipelines.base.signals import CountedSignals, held_stop_signals
from pipelines.nodes.first_node import FirstNode
from pipelines.nodes.other_node import run_other_node
from pipelines.nodes.settings import NodeSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit code of the run, on every node the same; negative for a signal."""
    command = list(sys.argv[1:] if argv is None else argv)
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        print("usage: python -m pipelines.node_launcher COMMAND...", file=sys.stderr)
        return ExitCode.USAGE
    return exit_code_of(lambda: _launch(command))


def _launch(command: Sequence[str]) -> int:
    settings = NodeSettings.of(os.environ)
    if settings.num_nodes == 1:
        with held_stop_signals():
            os.execvp(command[0], list(command))
    signals = CountedSignals()
    signals.install()
    return (
        FirstNode(command, settings).run(signals) if settings.rank == 0 else run_other_node(command, settings, signals)
    )


def end(code: int) -> None:
    """End this process as the command has ended, also by a signal."""
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    end(main())
