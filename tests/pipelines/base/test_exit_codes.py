"""The end of a command: exit codes, and one line for an error that users can fix."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from pipelines.base.errors import ConfigError
from pipelines.base.exit_codes import exit_code_of


@pytest.fixture
def closed_pipe() -> Iterator[TextIO]:
    """A stream whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    yield stream
    stream.close()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_reader_that_has_ended_ends_the_command_silently(
    name: str, closed_pipe: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, name, closed_pipe)
    assert exit_code_of(lambda: closed_pipe.write("x" * 100_000) * 0) == 141
    closed_pipe.flush()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_text_that_is_still_buffered_counts(closed_pipe: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    assert exit_code_of(lambda: closed_pipe.write("short") * 0) == 141


def test_place_that_cannot_be_used_is_one_line_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert exit_code_of(lambda: (tmp_path / "file" / "a").mkdir() or 0) == 1
    advice = "correct the path or its permissions, or name another place"
    assert capsys.readouterr().err == f"error: {tmp_path}/file/a: Not a directory; {advice}\n"


def test_full_disk_is_one_line_with_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a.ckpt")

    assert exit_code_of(fill) == 1
    message = "error: runs/a.ckpt: No space left on device; free disk space or write elsewhere\n"
    assert capsys.readouterr().err == message


def test_invalid_input_has_the_exit_code_of_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise ConfigError("name: is missing")

    assert exit_code_of(refuse) == 78
    assert capsys.readouterr().err == "error: name: is missing\n"


def test_error_of_the_program_keeps_its_traceback() -> None:
    def fail() -> int:
        raise OSError(errno.EACCES, "an address that is not a file")

    with pytest.raises(OSError, match="an address"):
        exit_code_of(fail)


def test_process_ends_after_its_threads_and_exit_handlers() -> None:
    program = """
import atexit, time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from pipelines.base.exit_codes import end_process

atexit.register(lambda: print("handler"))
pool = ThreadPoolExecutor()
pool.submit(lambda: (time.sleep(0.2), print("pool")))
Thread(target=lambda: (time.sleep(0.4), print("thread"))).start()
print("main")
end_process(75)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 75, ended.stderr
    assert ended.stdout.split() == ["main", "pool", "thread", "handler"]
    assert ended.stderr == ""


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_signal_after_the_command_ends_the_wait_for_threads_and_keeps_the_exit_code(signal_name: str) -> None:
    program = f"""
import atexit, os, signal, threading, time
from pipelines.base.exit_codes import end_process
from pipelines.training.stopping import StopRequest

def interrupt():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.{signal_name})
    time.sleep(600)

StopRequest("while predicting").install()
atexit.register(lambda: print("handler"))
threading.Thread(target=interrupt).start()
end_process(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.split() == ["handler"]
    assert ended.stderr == ""


def test_process_whose_reader_has_ended_keeps_its_exit_code(closed_pipe: TextIO) -> None:
    program = "from pipelines.base.exit_codes import end_process; print('short'); end_process(3)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=closed_pipe, stderr=subprocess.PIPE, check=False, env=environment
    )
    assert ended.returncode == 3
    assert ended.stderr == b""
