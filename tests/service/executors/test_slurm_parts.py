"""The output and the arguments of Slurm's commands, and the meaning of the states, without a cluster."""

import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from service.executors.base import AttemptSpec, ExecutorUnavailable, Observation, RequirementsNotMet
from service.executors.shim_contract import claim, order_path
from service.executors.slurm import executor as executor_module
from service.executors.slurm.commands import Rejected, SlurmCommands
from service.executors.slurm.executor import SlurmExecutor
from service.executors.slurm.first_node import environments
from service.executors.slurm.other_node import environment_of
from service.executors.slurm.states import SlurmJob, most_advanced, parse_sacct, parse_sinfo, parse_squeue
from service.executors.slurm.submission import command_of, folder_of, name_of, prefix_of, sbatch_arguments
from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[3]
PHASES = {
    "PENDING": "waiting", "CONFIGURING": "waiting", "RUNNING": "running", "SUSPENDED": "running",
    "COMPLETING": "ending",
    "COMPLETED": "ended", "CANCELLED": "ended", "FAILED": "ended", "TIMEOUT": "ended", "NODE_FAIL": "ended",
    "PREEMPTED": "ended", "OUT_OF_MEMORY": "ended", "A_STATE_OF_TOMORROW": "running",
}  # fmt: skip


class WrittenAnswers(SlurmCommands):
    """Answers of a cluster by command, and what was asked."""

    def __init__(self, **answers: str | Exception) -> None:
        super().__init__()
        self.answers, self.asked = answers, list[tuple[str, ...]]()

    def run(self, *command: str, script: str | None = None, environment: Mapping[str, str] | None = None) -> str:
        self.asked.append(command)
        answer = self.answers.get(command[0], "")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asked_of(self, name: str) -> list[tuple[str, ...]]:
        return [command for command in self.asked if command[0] == name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs" / "0a1b" / "attempts" / "2"
    folder.mkdir(parents=True)
    return folder


def spec_of(folder: Path, gpus: int = 0, start_until: float | None = None) -> AttemptSpec:
    resources = {"cpus": 3, "gpus": gpus}
    return AttemptSpec(folder, ("train",), {"SECRET": "s3cret"}, folder, 8.0, resources, start_until=start_until)


def executor_of(commands: SlurmCommands, **settings: str) -> SlurmExecutor:
    return SlurmExecutor(Settings(executor="slurm", **settings), commands)  # type: ignore[arg-type]


def listed(folder: Path, state: str) -> str:
    return f"17|{state}|None|{name_of(folder)}\n"


@pytest.mark.parametrize(("state", "phase"), PHASES.items())
def test_states_have_a_phase(state: str, phase: str) -> None:
    assert SlurmJob("1", state, "None", "x").phase == phase


def test_names_of_jobs_may_contain_any_character() -> None:
    text = "1|RUNNING|None|a|b\n2|PENDING|Resources|x\nforged line\n|PENDING|y\n3|COMPLETED|None|\n"
    assert [(job.id, job.name) for job in parse_squeue(text)] == [("1", "a|b"), ("2", "x"), ("3", "")]


def test_of_several_jobs_of_an_attempt_the_one_that_runs_counts() -> None:
    jobs = parse_squeue("1|COMPLETED|None|x\n2|RUNNING|None|x\n3|PENDING|None|x\n4|COMPLETED|None|x\n")
    assert most_advanced(jobs) == jobs[1]
    assert most_advanced([]) is None


def test_resources_of_nodes_in_several_partitions_count_once() -> None:
    text = "n1|8|gpu:a100:4(S:0-1),gpu:2,mps:400\nn1|8|gpu:a100:4(S:0-1),gpu:2,mps:400\nn2|16|(null)\n"
    found = parse_sinfo(text)
    assert found == {
        "cpus": 24, "gpus": 6, "nodes": 2, "largest_node_cpus": 16, "largest_node_gpus": 6, "gpu_type_a100": 4,
    }  # fmt: skip
    assert set(parse_sinfo("").values()) == {0}


def test_state_in_the_accounting_is_its_first_word() -> None:
    assert parse_sacct("FAILED\nCANCELLED by 1000\n") == "CANCELLED"
    assert parse_sacct("\n") is None


def test_job_is_named_after_its_attempt_and_its_service(folder: Path, tmp_path: Path) -> None:
    assert name_of(folder) == f"{prefix_of(tmp_path / 'jobs')}0a1b-2"
    assert folder_of(name_of(folder), tmp_path / "jobs") == folder
    assert prefix_of(tmp_path / "jobs") != prefix_of(tmp_path / "others")


def test_sbatch_gets_resources_a_signal_before_the_time_limit_and_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "100%" / "jobs" / "a" / "attempts" / "1"
    arguments = sbatch_arguments(spec_of(folder, gpus=2), ("--qos=low",))
    assert arguments[:2] == ("sbatch", "--qos=low")
    assert {"--cpus-per-task=3", "--gres=gpu:2", "--no-requeue", "--signal=B:TERM@13"} <= set(arguments)
    assert any(argument.startswith("--output=") and "/100%%/" in argument for argument in arguments)
    assert not any("s3cret" in argument for argument in arguments)
    assert not any("gres" in argument for argument in sbatch_arguments(spec_of(folder), ()))


def on_two_nodes(folder: Path) -> AttemptSpec:
    resources = {"cpus": 6, "gpus": 4, "nodes": 2}
    return AttemptSpec(folder, ("train",), {"SECRET": "s3cret"}, folder, 8.0, resources, num_nodes=2)


def test_job_on_two_nodes_has_one_task_with_its_share_on_each(folder: Path) -> None:
    each = {"--ntasks-per-node=1", "--cpus-per-task=3", "--gres=gpu:2"}
    assert {"--nodes=2", "--ntasks=2", *each} <= set(sbatch_arguments(on_two_nodes(folder), ()))
    words = command_of(on_two_nodes(folder))
    divider = words.index("--")
    assert words[:divider][2:5] == ("service.executors.slurm.first_node", "2", "srun")
    assert {"--nodes=1", "--relative=1", "--ntasks=1", *each} <= set(words[:divider])
    assert words[divider:] == ("--", "train")
    assert command_of(spec_of(folder)) == ("train",)
    assert "--gres=gpu:a100:2" in sbatch_arguments(replace(on_two_nodes(folder), gpu_type="a100"), ())


def test_only_a_job_on_several_nodes_gets_variables_of_slurm(folder: Path) -> None:
    executor_of(WrittenAnswers()).start(spec_of(folder))
    assert json.loads(order_path(folder).read_text())["inherited"] == []
    executor_of(WrittenAnswers()).start(on_two_nodes(folder))
    inherited = json.loads(order_path(folder).read_text())["inherited"]
    assert inherited == ["SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_CONF", "CUDA_VISIBLE_DEVICES"]


def test_launchers_get_their_number_and_the_address_of_the_first_node_but_no_variable_of_slurm() -> None:
    environ = {"A": "b", "SLURM_JOB_ID": "17", "SLURMD_NODENAME": "n7", "SLURM_CONF": "/c"}
    first, step = environments(environ, num_nodes=3)
    common = {"A": "b", "PYRAMIDION_NUM_NODES": "3", "PYRAMIDION_NODES_ADDRESS": "n7:30017"}
    assert first == {**common, "PYRAMIDION_NODE_RANK": "0"}
    assert step == {**environ, **common}
    assert environment_of({**step, "SLURM_NODEID": "1", "SLURM_NTASKS": "2"}) == {**common, "PYRAMIDION_NODE_RANK": "2"}


def test_attempt_is_submitted_once_with_a_private_order(folder: Path) -> None:
    commands = WrittenAnswers()
    executor = executor_of(commands, slurm_partition="gpu", slurm_options="--comment='two words'")
    executor.start(spec_of(folder))
    assert commands.asked_of("sbatch")[0][1:3] == ("--partition=gpu", "--comment=two words")
    assert stat.S_IMODE(order_path(folder).stat().st_mode) == 0o600
    commands.answers["squeue"] = listed(folder, "PENDING")
    executor.start(spec_of(folder))
    claim(folder, ShimProcess(pid=1))
    commands.answers["squeue"] = ""
    executor.start(spec_of(folder))
    assert len(commands.asked_of("sbatch")) == 1


def test_attempt_of_a_lease_that_has_ended_is_not_submitted(folder: Path) -> None:
    commands = WrittenAnswers()
    executor_of(commands).start(spec_of(folder, start_until=0.0))
    assert commands.asked_of("sbatch") == []


def test_rejected_job_is_an_error_of_its_attempt(folder: Path) -> None:
    executor = executor_of(WrittenAnswers(sbatch=Rejected("Invalid account")))
    with pytest.raises(OSError, match="Slurm rejects its job: Invalid account"):
        executor.start(spec_of(folder))


@pytest.mark.parametrize(
    ("state", "is_claimed", "seen"),
    [
        ("", False, Observation("absent")),
        ("", True, Observation("alive")),  # exit.json is not visible yet
        ("PENDING", False, Observation("pending")),
        ("RUNNING", False, Observation("pending")),
        ("RUNNING", True, Observation("alive")),
        ("COMPLETING", True, Observation("alive")),
        ("COMPLETED", True, Observation("alive")),
        ("NODE_FAIL", True, Observation("lost", reason="Slurm has ended its job with the state NODE_FAIL")),
        ("CANCELLED", False, Observation("lost", reason="Slurm has ended its job with the state CANCELLED")),
    ],
)
def test_attempt_without_an_exit_is_seen_as_slurm_sees_it(
    folder: Path, state: str, is_claimed: bool, seen: Observation
) -> None:
    if is_claimed:
        claim(folder, ShimProcess(pid=1))
    commands = WrittenAnswers(squeue=listed(folder, state) if state else "", sacct=Rejected("accounting is disabled"))
    assert executor_of(commands).poll(folder) == seen


def test_attempt_that_slurm_has_forgotten_is_lost_after_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(folder, ShimProcess(pid=1))
    monkeypatch.setattr(executor_module, "FILES_S", -1.0)
    assert executor_of(WrittenAnswers(squeue="")).poll(folder) == Observation("lost")


def test_ends_by_preemption_and_for_lack_of_memory_are_recognized(folder: Path) -> None:
    claim(folder, ShimProcess(pid=1))
    assert executor_of(WrittenAnswers(squeue=listed(folder, "PREEMPTED"))).poll(folder).was_preempted
    assert executor_of(WrittenAnswers(squeue="", sacct="OUT_OF_MEMORY\n")).poll(folder).ran_out_of_memory
    AttemptExit(code=-9).write(folder / "exit.json")
    assert executor_of(WrittenAnswers(squeue=listed(folder, "PREEMPTED"))).poll(folder).was_preempted


def test_exit_after_success_or_a_checkpoint_needs_no_answer_of_slurm(folder: Path) -> None:
    AttemptExit(code=75).write(folder / "exit.json")
    silent = WrittenAnswers(squeue=ExecutorUnavailable("slurmctld is down"))
    assert executor_of(silent).poll(folder) == Observation("exited", 75)


def test_stop_before_the_shim_runs_prevents_it(folder: Path) -> None:
    commands = WrittenAnswers(squeue=listed(folder, "RUNNING"))
    executor = executor_of(commands)
    executor.stop(folder)
    assert commands.asked_of("scancel") == [("scancel", "17")]
    commands.answers["squeue"] = listed(folder, "COMPLETED")
    assert executor_of(commands).poll(folder).kind == "lost"


@pytest.mark.parametrize(("kill", "number"), [(False, "TERM"), (True, "USR1")])
def test_stop_signals_the_shim_alone(folder: Path, kill: bool, number: str) -> None:
    claim(folder, ShimProcess(pid=1))
    commands = WrittenAnswers(squeue=listed(folder, "RUNNING"))
    executor_of(commands).stop(folder, kill=kill)
    assert commands.asked_of("scancel") == [("scancel", f"--signal={number}", "--batch", "17")]


def test_sweep_waits_until_the_job_has_left_its_node(folder: Path) -> None:
    claim(folder, ShimProcess(pid=1))
    commands = WrittenAnswers(squeue=listed(folder, "COMPLETING"))
    assert not executor_of(commands).sweep(folder)
    commands.answers["squeue"] = listed(folder, "NODE_FAIL")
    assert executor_of(commands).sweep(folder)


def test_jobs_of_other_services_are_no_orphans(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "jobs" / "x" / "attempts" / "1"
    commands = WrittenAnswers(squeue=listed(other, "RUNNING") + listed(folder, "RUNNING"))
    executor_of(commands).sweep_orphans([folder], tmp_path / "jobs")
    assert commands.asked_of("scancel") == []


def test_capacity_is_that_of_the_partition_up_to_the_settings() -> None:
    commands = WrittenAnswers(sinfo="n1|64|gpu:8\n")
    executor = SlurmExecutor(Settings(executor="slurm", cpus=16, slurm_partition="gpu"), commands)
    expected = {"cpus": 16, "gpus": 8, "nodes": 1, "largest_node_cpus": 16, "largest_node_gpus": 8}
    assert executor.capacity() == executor.capacity() == expected
    assert [command[-1] for command in commands.asked] == ["--partition=gpu"]


def test_missing_commands_are_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequirementsNotMet, match="the command sbatch is missing; install Slurm's client"):
        SlurmExecutor.check_requirements(Settings(executor="slurm"))


def test_options_that_are_no_words_are_reported() -> None:
    with pytest.raises(RequirementsNotMet, match="slurm_options: No closing quotation"):
        SlurmExecutor.check_requirements(Settings(executor="slurm", slurm_options="--comment='x"))


def test_silent_cluster_is_not_asked_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho asked >>$HOME/asked\necho Unable to contact slurm controller >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    commands = SlurmCommands()
    for _ in range(3):
        with pytest.raises(ExecutorUnavailable, match="Unable to contact"):
            commands.run(str(squeue))
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_example_names_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / "docs/examples/slurm/service.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name for name in variables if name.startswith(PREFIX)} <= {
        f"{PREFIX}{name.upper()}" for name in Settings.model_fields
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.executor, settings.slurm_partition) == ("slurm", "gpu")
    assert settings.cancel_grace_s == 50.0
