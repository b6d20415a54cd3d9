"""Child processes of the service: they find our packages first, and end with the process that started them."""

import ctypes
import os
import signal
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_PARENT = "PYRAMIDION_STARTED_BY"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a module of ours in a new process."""
    return (sys.executable, "-m", module, *arguments)


def child_environment(more: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which Python finds the packages that lie beside this one.

    `heads` is a common name: whatever lies in the working directory, and whatever other distribution ships a package
    of that name, the child imports ours. It also says who starts the child, for `die_with_parent`.
    """
    environment = {**more, "PYTHONSAFEPATH": "1", _PARENT: str(os.getpid())}
    root = Path(__file__).resolve().parent.parent
    # site-packages itself must not come before the standard library.
    if root != Path(sysconfig.get_path("purelib")).resolve():
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [more.get("PYTHONPATH")])])
    return environment


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `python -m MODULE ARGUMENTS`: signals reach it, and its exit code is ours."""
    sys.stdout.flush()
    os.execve(sys.executable, python_command(module, *arguments), child_environment())


def die_with_parent(number: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Let the kernel send a signal to this process when the *thread* that started it ends.

    To be called in the child; the parent must start it from its main thread.

    Args:
        number: the signal.
        parent: pid of the process that started this one, by default what `child_environment` of that process says;
            where it has ended already, this process gets the signal at once.
    """
    said = os.environ.pop(_PARENT, None)
    if parent is None and said is not None:
        parent = int(said)
    if _libc.prctl(_PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The kernel tells of a death that is to come, not of one that has been.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, whatever session it is in."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
