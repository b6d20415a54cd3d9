"""Child processes that work for one request each: they are killed at their deadline, and if the client disconnects."""

import asyncio
import logging
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fastapi import Request

from service.api.thread_pools import ThreadPool
from service.child_process import die_with_parent
from service.executors.process_tree import kill
from service.rest.disconnect import CLIENT_CLOSED_REQUEST, ClientGone, unless_gone
from service.rest.problems import Problem

logger = logging.getLogger(__name__)

AT_ONCE = 2
WAIT_S = 5.0
"""Maximum time that a request waits for its turn."""
STDIN_PATH = "/proc/self/fd/0"
"""The path at which a child opens its standard input as a file."""


class ChildRuns:
    """Child processes of one kind, with a limited number in progress.

    Args:
        noun: one of them in messages, such as `check`.
        threads: for everything that blocks: files, and the search for processes to kill.
        limit_s: seconds that one may take.
        limit_variable: the environment variable that sets them.
    """

    def __init__(self, noun: str, threads: ThreadPool, *, limit_s: float, limit_variable: str) -> None:
        self._noun = noun
        self._threads = threads
        self._limit_s = limit_s
        self._limit_variable = limit_variable
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(
        self,
        request: Request,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        reported: Collection[int],
        stdin: bytes = b"",
        cwd: Path | str = "/",
    ) -> tuple[int, bytes]:
        """Return the exit code and the standard output of a child, whose whole process tree is killed at the end.

        Args:
            request: the child is killed if its client disconnects.
            command: its command line.
            environment: its complete environment.
            reported: exit codes other than 0 with which it reports a problem on the standard output.
            stdin: its standard input, a file.
            cwd: its working directory.

        Raises:
            Problem: 499 if the client disconnects; 500 if the child exits with another code; 503 if too many are in
                progress; 504 if the time limit is exceeded.
        """
        try:
            code, output, log = await unless_gone(request, self._in_turn(command, environment, stdin, cwd))
        except ClientGone:
            raise Problem(CLIENT_CLOSED_REQUEST, "Client disconnected", f"the {self._noun} was cancelled") from None
        if code != 0 and not (code in reported and output):
            logger.error("a %s exited with code %d:\n%s", self._noun, code, log[-4000:])
            detail = f"the process of the {self._noun} exited unexpectedly; see the server log"
            raise Problem(500, f"The {self._noun} failed", detail)
        return code, output

    async def _in_turn(
        self, command: Sequence[str], environment: Mapping[str, str], stdin: bytes, cwd: Path | str
    ) -> tuple[int, bytes, str]:
        """Return the exit code, the standard output and the log of the child."""
        try:
            await asyncio.wait_for(self._turns.acquire(), WAIT_S)
        except TimeoutError:
            detail = f"{AT_ONCE} {self._noun}s are already in progress; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": "5"}) from None
        try:
            with ExitStack() as files:
                stdin_file, log = await self._threads.run(_open_files, files, stdin)
                code, output = await self._run_child(command, environment, stdin_file, log, cwd)
                return code, output, await self._threads.run(_text_of, log)
        except TimeoutError:
            detail = f"cancelled after {self._limit_s:g} s; {self._limit_variable} sets the limit of the server"
            raise Problem(504, f"The {self._noun} took too long", detail) from None
        finally:
            self._turns.release()

    async def _run_child(
        self, command: Sequence[str], environment: Mapping[str, str], stdin: BinaryIO, log: BinaryIO, cwd: Path | str
    ) -> tuple[int, bytes]:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, parent=os.getpid()),
        )
        try:
            output, _ = await asyncio.wait_for(child.communicate(), self._limit_s)
        finally:
            try:
                await self._threads.run(kill, lambda table: [p for p in table.values() if p.session == child.pid])
            finally:
                with suppress(ProcessLookupError):
                    child.kill()  # also if no thread could find its descendants
                code = await child.wait()
        return code, output


def _open_files(files: ExitStack, stdin: bytes) -> tuple[BinaryIO, BinaryIO]:
    """Open a file with the standard input and one for the log, until the stack is closed."""
    stdin_file, log = files.enter_context(_unnamed_file()), files.enter_context(_unnamed_file())
    stdin_file.write(stdin)
    stdin_file.seek(0)
    return stdin_file, log


def _unnamed_file() -> BinaryIO:
    """Return a temporary file without a name in any folder, so that nothing remains when this process is killed."""
    return tempfile.TemporaryFile()


def _text_of(log: BinaryIO) -> str:
    log.seek(0)
    return log.read().decode("utf-8", "replace")
