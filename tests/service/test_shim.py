"""The shim of one attempt, which stops everything that it has started, and records the exit."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE as MARK
from service.child_process import child_environment, python_command
from service.executors.process_tree import find_process, kill, processes, start_ticks, variable_of
from tests.service.waiting import TIMEOUT_S, wait_until

LOUD_GRANDCHILD = "setsid -f sh -c 'trap \"\" TERM; echo $$ grandchild; sleep 600; sleep 600'"
STUBBORN = f"trap '' TERM; {LOUD_GRANDCHILD}; while :; do sleep 0.05; done"
POLITE = "trap 'echo asked; exit 75' TERM; echo ready; while :; do sleep 0.02; done"


def wait_for(condition: Callable[[], object]) -> None:
    wait_until(condition, "the condition", pause_s=0.005)


def read(path: Path) -> bytes:
    """Return a file of /proc; nothing if its process has ended."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


class Shim:
    """A shim as its executor starts it: with blocked signals, its order on stdin and its output in the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def start(self, *command: str, grace_s: float = 60.0, early: int | None = None, **more: Any) -> "Shim":
        environment = {**os.environ, MARK: str(self.folder)}
        order = {"command": command, "environment": environment, "cwd": "/", "grace_s": grace_s, **more}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                python_command("service.shim", str(self.folder)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=child_environment(environment),
                start_new_session=True,
            )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if early is not None:
            self.process.send_signal(early)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode())
        self.process.stdin.close()
        return self

    def shell(self, script: str, grace_s: float = 60.0, early: int | None = None) -> "Shim":
        return self.start("sh", "-c", script, grace_s=grace_s, early=early)

    def until_it_says(self, text: str) -> None:
        wait_for(lambda: text in self.log)

    def ending(self) -> dict[str, Any]:
        """Return exit.json once the shim and all its processes have ended."""
        assert self.process.wait(timeout=TIMEOUT_S) == 0, self.log
        assert self.remaining() == set()
        ending: dict[str, Any] = json.loads((self.folder / "exit.json").read_text())
        return ending

    def remaining(self) -> set[int]:
        table = processes()
        return {p.pid for p in table.values() if variable_of(p, MARK) == str(self.folder)}

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    shim = Shim(tmp_path / "attempt")
    yield shim
    kill(lambda table: {p for p in table.values() if variable_of(p, MARK) == str(shim.folder)})
    shim.process.wait(timeout=TIMEOUT_S)


def test_exit_json_has_exit_code_time_and_memory(shim: Shim) -> None:
    before = time.time()
    ending = shim.shell("exit 3").ending()
    assert (ending["code"], ending["ran_out_of_memory"]) == (3, False)
    assert before <= ending["ended"] <= time.time()


def test_sigterm_is_passed_to_the_command(shim: Shim) -> None:
    shim.shell(POLITE).until_it_says("ready")
    shim.process.terminate()
    assert shim.ending()["code"] == 75
    assert shim.log == "ready\nasked\n"


def test_end_of_the_driver_stops_the_command(shim: Shim) -> None:
    with subprocess.Popen(["sleep", "600"]) as driver:
        process = find_process(driver.pid)
        assert process is not None
        shim.start("sh", "-c", POLITE, driver=[driver.pid, start_ticks(process)]).until_it_says("ready")
        driver.kill()
    assert shim.ending()["code"] == 75
    assert shim.log == "ready\nasked\n"


def test_sigterm_is_passed_to_the_command_only(shim: Shim) -> None:
    script = "sh -c 'trap \"echo child too\" TERM; echo ready; while :; do sleep 0.02; done' & trap 'exit 5' TERM; wait"
    shim.shell(script).until_it_says("ready")
    shim.process.terminate()
    assert shim.ending()["code"] == 5
    assert shim.log == "ready\n"


def test_repeated_sigterm_is_passed_once(shim: Shim) -> None:
    script = "trap 'echo asked' TERM; echo ready; until [ -e $0 ]; do sleep 0.02; done"
    go = shim.folder / "go"
    shim.start("sh", "-c", script, str(go)).until_it_says("ready")
    shim.process.terminate()
    shim.until_it_says("asked")
    shim.process.terminate()
    wait_for(lambda: not is_pending(shim.process.pid, signal.SIGTERM))
    go.touch()
    assert shim.ending()["code"] == 0
    assert shim.log == "ready\nasked\n"


def is_pending(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = {line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))}
    return bool((pending["SigPnd:"] | pending["ShdPnd:"]) >> (number - 1) & 1)


def test_command_that_exceeds_its_grace_period_is_killed_with_its_tree(shim: Shim) -> None:
    shim.shell(STUBBORN, grace_s=0.3).until_it_says("grandchild")
    requested = time.monotonic()
    shim.process.terminate()
    assert shim.ending()["code"] == -signal.SIGKILL
    assert time.monotonic() - requested >= 0.3


def test_sigusr1_kills_the_tree_at_once(shim: Shim) -> None:
    shim.shell(STUBBORN).until_it_says("grandchild")
    shim.process.terminate()
    shim.process.send_signal(signal.SIGUSR1)
    assert shim.ending()["code"] == -signal.SIGKILL


def test_processes_that_outlive_the_command_are_killed(shim: Shim) -> None:
    """This includes processes that have neither the session nor the environment of the attempt."""
    mark = f"600.{os.getpid()}"
    script = f"{LOUD_GRANDCHILD}; sleep {mark} & env -i setsid -f sleep {mark}; sleep 0.2; exit 6"
    assert shim.shell(script).ending()["code"] == 6
    commands = [read(Path(f"/proc/{pid}/cmdline")) for pid in processes()]
    assert [command for command in commands if mark.encode() in command] == []


def test_tree_that_keeps_forking_is_killed(shim: Shim) -> None:
    # Should it not be killed, it must not run on after the tests.
    program = textwrap.dedent(f"""
        import os, time
        end = time.monotonic() + {2 * TIMEOUT_S}
        while time.monotonic() < end:
            if os.fork():
                time.sleep(0.002)
                os._exit(0)
            os.setsid()
    """)
    shim.start(sys.executable, "-S", "-c", program, grace_s=0.1)
    assert shim.ending()["code"] == 0


@pytest.mark.parametrize(("early", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGUSR1, -signal.SIGKILL)])
def test_signal_before_the_command_starts_is_not_lost(shim: Shim, early: int, code: int) -> None:
    assert shim.shell("echo ran; sleep 600", early=early).ending()["code"] == code
    assert shim.log == ""


def test_orphans_of_the_tree_are_reaped(shim: Shim) -> None:
    shim.shell("for i in 1 2 3; do setsid -f true; done; sleep 0.1; echo ready; exec sleep 600").until_it_says("ready")

    def zombies() -> list[str]:
        stats = (read(path).decode() for path in Path("/proc").glob("[0-9]*/stat"))
        fields = [stat.rpartition(")")[2].split() for stat in stats if stat]
        return [state for state, parent, *_ in fields if state == "Z" and int(parent) == shim.process.pid]

    wait_for(lambda: not zombies())


def test_signals_of_a_terminal_are_ignored(shim: Shim) -> None:
    shim.shell(POLITE).until_it_says("ready")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        shim.process.send_signal(number)
    assert shim.ending()["code"] == 75


def test_command_starts_with_default_signals(shim: Shim) -> None:
    program = "print(open('/proc/self/status').read())"
    shim.start(sys.executable, "-S", "-c", program).ending()
    status = dict(line.split(":", 1) for line in shim.log.splitlines() if ":" in line)
    assert int(status["SigBlk"], 16) == 0
    ignored = int(status["SigIgn"], 16)
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
    assert [number for number in asked if ignored >> (number - 1) & 1] == []


def test_signal_to_the_commands_group_does_not_reach_the_shim(shim: Shim) -> None:
    shim.shell("trap '' TERM; kill -TERM 0; kill -USR1 0").ending()
    assert json.loads((shim.folder / "exit.json").read_text())["code"] == -signal.SIGUSR1


@pytest.mark.parametrize("order", [{"command": ["/no/such/program"]}, {"cwd": "/no/such/folder"}])
def test_command_that_cannot_be_started_is_reported(shim: Shim, order: dict[str, Any]) -> None:
    assert shim.start("true", **order).ending()["code"] == 127
    assert "could not be started" in shim.log
    assert "No such file or directory" in shim.log


def test_second_shim_in_a_folder_does_nothing(shim: Shim) -> None:
    (shim.folder / "run.json").write_text("{}")
    shim.shell("echo ran")
    assert shim.process.wait(timeout=TIMEOUT_S) == 0
    assert shim.log == ""
    assert sorted(path.name for path in shim.folder.iterdir()) == ["log.txt", "run.json"]


def test_shim_on_a_full_disk_exits_without_exit_json_and_without_processes(shim: Shim) -> None:
    """The full disk is simulated with a file size limit of zero."""
    program = textwrap.dedent(f"""
        import os, resource
        resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        os.system({LOUD_GRANDCHILD!r})
        while "grandchild" not in open({str(shim.folder / "log.txt")!r}).read():
            pass
        os._exit(9)
    """)
    shim.start(sys.executable, "-S", "-c", program)
    assert shim.process.wait(timeout=TIMEOUT_S) == 1
    assert "grandchild" in shim.log
    assert shim.remaining() == set()
    assert [path.name for path in shim.folder.iterdir() if "exit" in path.name] == []


def test_exit_json_is_written_once_disk_space_is_free_again(shim: Shim) -> None:
    program = "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    shim.start(sys.executable, "-S", "-c", f"{program}; os._exit(9)")
    # A failed attempt to write changes the modification time of the folder.
    wait_for(lambda: resource.prlimit(shim.process.pid, resource.RLIMIT_FSIZE)[0] == 0)
    before = shim.folder.stat().st_mtime_ns
    wait_for(lambda: shim.folder.stat().st_mtime_ns != before)
    resource.prlimit(shim.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert shim.ending()["code"] == 9


def test_shim_is_small_and_imports_little(shim: Shim) -> None:
    shim.shell("echo ready; exec sleep 600").until_it_says("ready")
    assert psutil.Process(shim.process.pid).memory_info().rss < 25_000_000
    program = "import sys; before = {*sys.modules}; import service.shim; print(*({*sys.modules} - before))"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    packages = {name.partition(".")[0] for name in imported.split()}
    assert packages - sys.stdlib_module_names == {"pipelines", "psutil", "service"}


def test_command_dies_with_a_killed_shim(shim: Shim) -> None:
    shim.shell("echo $$ end; exec sleep 600").until_it_says("end")
    command = find_process(int(shim.log.split()[0]))
    assert command is not None
    shim.process.kill()
    wait_for(lambda: find_process(command.pid) != command)
