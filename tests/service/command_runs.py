"""Command lines of `pyramidion` in this process, for tests that a process of its own would show nothing more.

A process takes half a second of processor time to start.
"""

import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from service.cli import main

Finished = subprocess.CompletedProcess[str]


def pyramidion(arguments: Sequence[str]) -> list[str]:
    """Return the command line of `pyramidion`; like an installed script, without the working directory on the path."""
    return [sys.executable, "-P", "-m", "service.cli", *arguments]


def run_command(*arguments: str, cwd: Path, environment: Mapping[str, str | None]) -> Finished:
    """Run a command line as a shell in a folder would, and return its exit code and output.

    Args:
        environment: variables that differ from those of this process; None removes one.
    """
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as variables:
        for name, text in environment.items():
            if text is None:
                variables.delenv(name, raising=False)
            else:
                variables.setenv(name, text)
        with chdir(cwd), redirect_stdout(output), redirect_stderr(errors):
            code = main(arguments)
    texts = []
    for stream in (output, errors):
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(arguments, code, *texts)


def frameworks_s() -> float:
    """Return the processor time of a process that imports the frameworks of the API, as a measure of this machine.

    It takes 0.45 s on a quiet 2-core Xeon, and as much longer on a busy one as other processes do.
    """
    code = "import time, fastapi, sqlalchemy, uvicorn; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
