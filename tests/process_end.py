"""A plugin of pytest: the process ends with the exit code of pytest, without collecting garbage."""

import atexit
import os
import sys
from collections.abc import Generator

import pytest

_PROCESS = os.getpid()
_exit_codes: list[int] = []


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main() -> Generator[None, int, int]:
    """Remember the exit code of the whole command: errors after the last test, such as those of hooks, count too."""
    _exit_codes.append(1)
    code = yield
    _exit_codes.append(int(code))
    return code


@atexit.register
def end_without_collecting_garbage() -> None:
    """End the process as its last exit handler: the interpreter would search all objects of libraries, for seconds.

    Processes that a test forks end as usual.
    """
    if _exit_codes and os.getpid() == _PROCESS:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_codes[-1])
