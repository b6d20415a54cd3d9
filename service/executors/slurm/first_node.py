"""`python -m service.executors.slurm.first_node NUM_NODES SRUN... -- COMMAND...`: runs a command on all nodes of a job.

The shim on the first node starts it. It starts the launcher of this node, and those of the other nodes by a step of
Slurm. `srun` ends its step at once on SIGTERM, so a request to stop goes to the launcher of this node alone, which
passes it on. Torch-free.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from pipelines.base.ranks import NODE_RANK
from pipelines.base.signals import STOP_SIGNALS
from pipelines.node_launcher import end
from pipelines.nodes.settings import port_of_slurm_job
from service.child_process import die_with_parent, python_command
from service.executors.nodes import node_command, node_environment

JOB, NODE = "SLURM_JOB_ID", "SLURMD_NODENAME"
OF_SLURM = (JOB, NODE, "SLURM_CONF")
"""Variables of the batch script that this process needs. More of them would change the step."""

WATCHED = {signal.SIGTERM, signal.SIGCHLD}
LOOK_S = 10.0
"""Time after which the processes are looked at without a signal."""
ALONE_S = 60.0
"""Time that the launcher of this node has to end by itself after the step has failed; it notices lost nodes earlier."""
STEP_S = 15.0
"""Time that the step has to end by itself after the launcher of this node."""


def main() -> int:
    """Run the command; return the exit code of the run, negative for a signal."""
    divider = sys.argv.index("--")
    num_nodes, step, command = int(sys.argv[1]), sys.argv[2:divider], node_command(sys.argv[divider + 1 :])
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    own, others = environments(os.environ, num_nodes)
    # The launcher releases the stop signals as soon as it can handle them.
    launcher = _start(command, own, STOP_SIGNALS)
    try:
        srun = _start((*step, *python_command("service.executors.slurm.other_node", *command)), others, ())
    except OSError as error:
        _print_error(f"{step[0]} cannot be run on this node: {error.strerror}; install Slurm's client on all nodes")
        launcher.kill()
        launcher.wait()
        return 1
    code = _follow(launcher, srun)
    _end_step(srun)
    return code


def environments(environ: Mapping[str, str], num_nodes: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environments of the launcher of this node, and of `srun`.

    Args:
        environ: the environment of this process.
        num_nodes: number of nodes.
    """
    settings = node_environment(0, num_nodes, f"{environ[NODE]}:{port_of_slurm_job(environ[JOB])}")
    own = {name: text for name, text in {**environ, **settings}.items() if name not in OF_SLURM}
    others = {name: text for name, text in {**environ, **settings}.items() if name != NODE_RANK}
    return own, others


def _start(
    command: Sequence[str], environment: Mapping[str, str], held: Collection[signal.Signals]
) -> "subprocess.Popen[bytes]":
    """Start a process that dies with this one.

    Args:
        held: signals that are held back when it starts.
    """
    parent = os.getpid()

    def prepare() -> None:
        die_with_parent(parent=parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)

    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, preexec_fn=prepare)


def _follow(launcher: "subprocess.Popen[bytes]", srun: "subprocess.Popen[bytes]") -> int:
    """Pass SIGTERM on to the launcher until it ends; return its exit code, or 1 if the other nodes cannot start."""
    give_up_at = math.inf
    while (code := launcher.poll()) is None:
        if give_up_at == math.inf and srun.poll():
            give_up_at = time.monotonic() + ALONE_S
        if time.monotonic() >= give_up_at:
            _print_error(f"srun has ended with code {srun.returncode} on the other nodes; see its output above")
            launcher.kill()
            launcher.wait()
            return 1
        arrived = signal.sigtimedwait(WATCHED, min(LOOK_S, max(0.0, give_up_at - time.monotonic())))
        if arrived is not None and arrived.si_signo == signal.SIGTERM:
            launcher.send_signal(signal.SIGTERM)
    return code


def _end_step(srun: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of the other nodes; kill them if it takes too long."""
    with suppress(subprocess.TimeoutExpired):
        srun.wait(STEP_S)
        return
    srun.terminate()
    with suppress(subprocess.TimeoutExpired):
        srun.wait(STEP_S)


def _print_error(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = main()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    end(code)
