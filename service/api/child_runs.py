"""Child processes that work for one request: they are killed at their deadline, and if the client disconnects."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from service.api.thread_pools import ThreadPool
from service.child_process import die_with_parent
from service.executors.process_tree import kill


async def run_child(
    command: Sequence[str],
    environment: Mapping[str, str],
    threads: ThreadPool,
    *,
    limit_s: float,
    log: BinaryIO,
    pass_fds: Sequence[int] = (),
    cwd: Path | str = "/",
) -> tuple[int, bytes]:
    """Return the exit code and the standard output of a child, whose whole process tree is killed at the end.

    Args:
        command: its command line.
        environment: its complete environment.
        threads: for the search for processes to kill.
        limit_s: seconds that it may take.
        log: gets what it writes to the standard error.
        pass_fds: open files that it inherits.
        cwd: its working directory.

    Raises:
        TimeoutError: it took longer.
    """
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        pass_fds=pass_fds,
        env=environment,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, parent=os.getpid()),
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), limit_s)
    finally:
        try:
            await threads.run(kill, lambda table: [p for p in table.values() if p.session == child.pid])
        finally:
            with suppress(ProcessLookupError):
                child.kill()  # also if no thread could find its descendants
            code = await child.wait()
    return code, output


def unnamed_file() -> BinaryIO:
    """Return a temporary file without a name in any folder, so that nothing remains when this process is killed."""
    return tempfile.TemporaryFile()


def text_of(log: BinaryIO) -> str:
    """Return everything that was written to a file."""
    log.seek(0)
    return log.read().decode("utf-8", "replace")
