"""Child processes of the service, which import this project's packages and exit with the process that started them."""

import ctypes
import os
import signal
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pipelines.base.signals import held_stop_signals

_PARENT = "PYRAMIDION_STARTED_BY"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_libc = ctypes.CDLL(None, use_errno=True)


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs one of this project's modules in a new process."""
    return (sys.executable, "-m", module, *arguments)


def child_environment(more: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which Python finds the packages next to this one.

    `heads` is a common name: the child imports this project's package, even if the working directory or another
    distribution contains a package with this name. The environment also names the parent, for `die_with_parent`.
    """
    environment = {**more, "PYTHONSAFEPATH": "1", _PARENT: str(os.getpid())}
    root = Path(__file__).resolve().parent.parent
    # site-packages must not come before the standard library.
    if root != Path(sysconfig.get_path("purelib")).resolve():
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [more.get("PYTHONPATH")])])
    return environment


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process with `python -m MODULE ARGUMENTS`, which receives its signals and sets its exit code.

    Stop signals are held back until the module releases them (`pipelines.base.signals`): none of them ends Python with
    a traceback while it starts.
    """
    sys.stdout.flush()
    with held_stop_signals():
        os.execve(sys.executable, python_command(module, *arguments), child_environment())


def die_with_parent(number: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Make the kernel send a signal to this process when the *thread* that started it ends.

    Call it in the child; the parent must start the child from its main thread.

    Args:
        number: the signal.
        parent: pid of the process that started this one; by default the one that its `child_environment` names. If it
            has already exited, this process receives the signal at once.
    """
    named = os.environ.pop(_PARENT, None)
    if parent is None and named is not None:
        parent = int(named)
    if _libc.prctl(_PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The kernel reports only deaths that happen after the call above.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, in any session."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def adopts_orphans() -> bool:
    """Return True if `adopt_orphans` was called in this process, also before it replaced itself by another program."""
    answer = ctypes.c_int(0)
    if _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_GET_CHILD_SUBREAPER) failed")
    return answer.value != 0
