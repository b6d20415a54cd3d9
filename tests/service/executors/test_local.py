"""The local executor observes and stops attempts, even if it or their shims are killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.boot_clock import boot_id
from service.executors.local import LocalExecutor
from service.executors.process_tree import descendants, find_process, processes, send_signal, start_ticks
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
SLEEP = "echo ready; exec sleep 600"
STARTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from service.executors.base import AttemptSpec
    from service.executors.local import LocalExecutor
    folder, *command = sys.argv[1:]
    spec = AttemptSpec(Path(folder), tuple(command), {"PATH": "/usr/bin:/bin"}, Path("/"), 60.0, {"cpus": 1})
    print("ready", flush=True)
    sys.stdin.read(1)
    LocalExecutor(cpus=1, gpus=0).start(spec)
    print("started", flush=True)
    sys.stdin.read()
""")


def starter(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Return a process that starts an attempt when it receives a line of input, and keeps running."""
    line = [sys.executable, "-c", STARTER, str(folder), *command]
    process = subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def trigger(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def run_of(attempt: Any) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((attempt.folder / "run.json").read_text())
    return run


def is_alive(pid: int) -> bool:
    return find_process(pid) is not None


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """Return an unrelated process that leads its own session."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("code", [0, 3, 75])
def test_attempt_has_the_exit_code_of_its_command(attempt: Any, code: int) -> None:
    seen = attempt.shell(f"exit {code}").until("exited")
    assert (seen.exit_code, seen.ran_out_of_memory) == (code, False)


def test_exit_code_of_a_killed_attempt_is_the_negative_signal(attempt: Any) -> None:
    assert attempt.shell("kill -KILL $$").until("exited").exit_code == -signal.SIGKILL


def test_attempt_that_was_not_started_is_absent(attempt: Any) -> None:
    assert attempt.poll().kind == "absent"


def test_log_contains_both_streams(attempt: Any) -> None:
    attempt.shell("echo out; echo err >&2").until("exited")
    assert attempt.log == "out\nerr\n"


def test_command_gets_only_its_environment_and_its_folder(attempt: Any) -> None:
    attempt.start("env", TOKEN="secret").until("exited")
    seen = dict(line.split("=", 1) for line in attempt.log.splitlines())
    own = {"PYRAMIDION_ATTEMPT_DIR": str(attempt.folder), "CUDA_VISIBLE_DEVICES": ""}
    assert seen == {"PATH": os.environ["PATH"], "TOKEN": "secret", **own}


def test_environment_of_a_command_is_not_written_to_a_file(attempt: Any) -> None:
    attempt.start("sh", "-c", SLEEP, TOKEN="secret").until_it_says("ready")
    wait_until(lambda: not list(attempt.folder.glob(".*")), "the end of the shim's writing")
    assert [path for path in attempt.folder.rglob("*") if b"secret" in path.read_bytes()] == []


def test_shim_does_not_inherit_the_environment_of_its_starter(attempt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDION_DATABASE_URL", "secret")
    attempt.start("sh", "-c", SLEEP).until_it_says("ready")
    environments = [Path(f"/proc/{process.pid}/environ").read_bytes() for process in attempt.processes]
    assert len(environments) == 2
    assert [environment for environment in environments if b"secret" in environment] == []


def test_command_runs_in_its_folder_without_stdin(attempt: Any) -> None:
    attempt.shell("pwd; cat").until("exited")
    assert attempt.log == f"{attempt.folder.parent}\n"


def test_run_json_has_the_pids_of_shim_and_trainer(attempt: Any, wait_for: Any) -> None:
    attempt.shell("echo $$; exec sleep 600").until_it_says("\n")
    wait_for(lambda: run_of(attempt)["trainer_pid"])
    run = run_of(attempt)
    assert run["trainer_pid"] == int(attempt.log)
    assert find_process(run["trainer_pid"]).parent == run["pid"]  # type: ignore[union-attr]
    shim = find_process(run["pid"])
    assert shim is not None
    assert (run["boot_id"], run["start_time"]) == (boot_id(), start_ticks(shim))


def test_ended_shim_does_not_remain_a_zombie(attempt: Any) -> None:
    attempt.shell("exit 0").until("exited")
    assert not Path(f"/proc/{run_of(attempt)['pid']}").exists()


def test_attempt_is_started_once(attempt: Any) -> None:
    attempt.shell("echo ran").shell("echo ran").shell("echo ran").until("exited")
    attempt.shell("echo ran")
    assert attempt.poll().kind == "exited"
    assert attempt.log == "ran\n"


def test_two_concurrent_starts_run_the_command_once(attempt: Any, wait_for: Any) -> None:
    starters = [starter(attempt.folder, "sh", "-c", "echo ran; sleep 0.3") for _ in range(2)]
    for process in starters:
        trigger(process)
    for process in starters:
        assert process.communicate(timeout=TIMEOUT_S)[0] == "started\n"
    assert attempt.until("exited").exit_code == 0
    wait_for(lambda: not attempt.processes)
    assert attempt.log == "ran\n"


def test_attempt_outlives_its_starter_and_is_adopted(attempt: Any, tmp_path: Path) -> None:
    process = starter(attempt.folder, "sh", "-c", f"echo ready; cat {tmp_path}/go; exit 7")
    os.mkfifo(tmp_path / "go")
    trigger(process)
    attempt.until_it_says("ready")
    before = run_of(attempt)["pid"]
    process.kill()
    process.wait()
    assert attempt.poll().kind == "alive"
    attempt.executor = LocalExecutor(cpus=1, gpus=0)
    assert attempt.poll().kind == "alive"
    attempt.shell("exit 8")
    (tmp_path / "go").write_text("")
    assert attempt.until("exited").exit_code == 7
    assert run_of(attempt)["pid"] == before


def test_command_dies_with_its_shim_and_the_attempt_is_lost(attempt: Any, wait_for: Any) -> None:
    attempt.shell("echo $$ end; exec sleep 600").until_it_says("end")
    os.kill(run_of(attempt)["pid"], signal.SIGKILL)
    assert attempt.until("lost").exit_code is None
    wait_for(lambda: not is_alive(int(attempt.log.split()[0])))


@pytest.mark.parametrize(
    "child",
    [
        "sleep 600",
        "setsid -f sh -c 'trap \"\" TERM; sleep 600; sleep 600'",
        "env -i sleep 600",
        "env -u PYRAMIDION_ATTEMPT_DIR sh -c '(setsid sleep 600 >/dev/null 2>&1); :'",
    ],
    ids=["child", "double-forked", "without its environment", "a child of such a one, elsewhere"],
)
def test_sweep_kills_the_processes_of_a_killed_shim(attempt: Any, wait_for: Any, child: str) -> None:
    attempt.shell(f"{child} & sleep 0.2; echo ready; wait; sleep 600").until_it_says("ready")
    left = descendants(run_of(attempt)["pid"], processes())
    os.kill(run_of(attempt)["pid"], signal.SIGKILL)
    attempt.until("lost")
    wait_for(lambda: attempt.executor.sweep(attempt.folder))
    # The check kills what remains, so that nothing outlives the test.
    assert [process for process in left if send_signal(process, signal.SIGKILL)] == []
    assert attempt.poll().kind == "lost"


def test_sweep_also_kills_a_living_shim(attempt: Any) -> None:
    attempt.shell(f"sleep 600 & {SLEEP}").until_it_says("ready")
    assert attempt.executor.sweep(attempt.folder)
    assert attempt.processes == set()
    assert attempt.poll().kind == "lost"


def test_sweep_without_processes_succeeds_at_once(attempt: Any) -> None:
    assert attempt.executor.sweep(attempt.folder)
    attempt.shell("exit 0").until("exited")
    assert attempt.executor.sweep(attempt.folder)
    assert attempt.poll() == attempt.until("exited")


def test_sweep_never_kills_its_caller(attempt: Any) -> None:
    program = textwrap.dedent(f"""
        import subprocess, sys
        from pathlib import Path
        from service.executors.local import LocalExecutor
        child = subprocess.Popen(["sleep", "600"])
        print(LocalExecutor(1, 0).sweep(Path({str(attempt.folder)!r})), child.wait(), flush=True)
    """)
    environment = {**os.environ, "PYRAMIDION_ATTEMPT_DIR": str(attempt.folder)}
    shell = ["sh", "-c", 'sleep 0; "$@"; echo parent', "sh", sys.executable, "-c", program]
    done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True -9\nparent\n", done.stderr


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}], ids=["start time", "boot"])
def test_reused_pid_is_never_signaled(attempt: Any, innocent: subprocess.Popen[bytes], change: dict[str, Any]) -> None:
    process = find_process(innocent.pid)
    assert process is not None
    run = {"pid": process.pid, "start_time": start_ticks(process), "boot_id": boot_id(), **change}
    attempt.folder.mkdir(parents=True)
    (attempt.folder / "run.json").write_text(json.dumps(run))
    assert attempt.poll().kind == "lost"
    attempt.executor.stop(attempt.folder)
    attempt.executor.stop(attempt.folder, kill=True)
    assert attempt.executor.sweep(attempt.folder)
    assert innocent.poll() is None


def test_reused_session_is_never_signaled(attempt: Any, wait_for: Any) -> None:
    """The leader of a daemon's session has often exited, so only the session's number remains."""
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 600 >&2 & echo $!"], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    daemon = find_process(int(leader.communicate(timeout=TIMEOUT_S)[0]))
    assert daemon is not None
    assert daemon.session == leader.pid
    try:
        attempt.folder.mkdir(parents=True)
        run = {"pid": leader.pid, "start_time": 1, "boot_id": boot_id()}
        (attempt.folder / "run.json").write_text(json.dumps(run))
        assert attempt.executor.sweep(attempt.folder)
        assert find_process(daemon.pid) == daemon
    finally:
        os.kill(daemon.pid, signal.SIGKILL)


def test_damaged_run_json_is_a_lost_attempt(attempt: Any) -> None:
    attempt.folder.mkdir(parents=True)
    for content in ("", "[]", "{}", '{"pid": "x"}'):
        (attempt.folder / "run.json").write_text(content)
        assert attempt.poll().kind == "lost"
        attempt.executor.stop(attempt.folder)
        assert attempt.executor.sweep(attempt.folder)


def test_orphans_are_swept_and_known_attempts_continue(tmp_path: Path, attempt: Any, wait_for: Any) -> None:
    stranger = type(attempt)(tmp_path / "jobs" / "b" / "attempts" / "2", wait_for)
    elsewhere = type(attempt)(tmp_path / "other" / "c" / "attempts" / "1", wait_for)
    every = [attempt, stranger, elsewhere]
    for one in every:
        one.shell(SLEEP).until_it_says("ready")
    attempt.executor.sweep_orphans([attempt.folder], tmp_path / "jobs")
    assert [one.poll().kind for one in every] == ["alive", "lost", "alive"]
    assert stranger.processes == set()


def test_stopping_an_ended_or_unknown_attempt_does_nothing(attempt: Any) -> None:
    for kill in (False, True):
        attempt.executor.stop(attempt.folder, kill=kill)
    attempt.shell("exit 4").until("exited")
    for kill in (False, True):
        attempt.executor.stop(attempt.folder, kill=kill)
    assert attempt.poll().exit_code == 4


def test_attempt_can_be_stopped_right_after_its_start(attempt: Any) -> None:
    attempt.shell(SLEEP)
    attempt.executor.stop(attempt.folder)
    assert attempt.until("exited").exit_code == -signal.SIGTERM


@pytest.mark.parametrize(("devices", "visible"), [(("GPU-1", "GPU-2"), "GPU-1,GPU-2"), ((), "")])
def test_command_sees_only_its_devices(
    attempt: Any, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    spec = replace(attempt.spec("sh", "-c", 'echo "=$CUDA_VISIBLE_DEVICES="'), devices=devices)
    attempt.executor.start(spec)
    attempt.until("exited")
    assert attempt.log == f"={visible}=\n"
