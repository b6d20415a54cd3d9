"""The command on two nodes, as users start it: two hosts that a cable joins, and two launchers on one host."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import write_yaml
from tests.joined_namespaces import HOSTS, are_available, joined_namespaces
from tests.service.waiting import wait_until

Document = dict[str, Any]
ROOT = str(Path(__file__).parents[3])


@pytest.fixture
def words(small_document: Document, demo_root: Path, tmp_path: Path, no_mlflow_settings: None) -> list[str]:
    """Return the command that trains on two nodes."""
    small_document["trainer"] |= {"num_nodes": 2, "devices": 1, "max_epochs": 2}
    small_document["model"]["backbone"] = {"name": "timm:test_resnet", "weights": "none"}
    small_document["model"]["unfreeze"] = {0: "none", 1: "all"}
    small_document["data"]["image_size"] = 64
    (tmp_path / "job.yaml").write_text(write_yaml(small_document))
    places = ["--data.root", str(demo_root), "--run-dir", str(tmp_path / "run")]
    return [sys.executable, "-m", "pipelines.cli", "fit", "--config", str(tmp_path / "job.yaml"), *places]


def start(command: Sequence[str], folder: Path, rank: int, address: str) -> "subprocess.Popen[str]":
    """Start a command with the settings of a node, in its own session and with a folder for temporary files."""
    (folder / f"tmp{rank}").mkdir(exist_ok=True)
    settings = {"PYRAMIDION_NUM_NODES": "2", "PYRAMIDION_NODE_RANK": str(rank), "PYRAMIDION_NODES_ADDRESS": address}
    places = {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1", "TMPDIR": str(folder / f"tmp{rank}"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **places, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def launcher(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pipelines.node_launcher", *words]


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return exit code and output; check that none of its processes remains."""
    output, _ = process.communicate(timeout=300)

    def group_is_gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(group_is_gone, "the end of all processes of a node")
    return process.returncode, output


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_two_hosts_train_one_model_and_listen_on_their_cable_only(words: list[str], tmp_path: Path) -> None:
    if not are_available():
        pytest.skip("needs the right to create network namespaces")
    listening: list[set[str]] = [set(), set()]
    with joined_namespaces() as hosts:
        commands = [host.command(*launcher(words)) for host in hosts]
        processes = [start(one, tmp_path, rank, f"{HOSTS[0]}:29400") for rank, one in enumerate(commands)]

        def has_trained() -> bool:
            for number, host in enumerate(hosts):
                listening[number] |= host.listening()
            return '"progress"' in text_of(RunDir.of(tmp_path / "run").events) or processes[0].poll() is not None

        wait_until(has_trained, "the first step")
        outcomes = [ended(process) for process in processes]
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert listening == [{HOSTS[0]}, {HOSTS[1]}]
    assert "result in " in outcomes[0][1]
    assert "result in " not in outcomes[1][1]
    assert "Traceback" not in outcomes[0][1] + outcomes[1][1]
    assert json.loads((tmp_path / "run" / "attempts" / "1" / "exit.json").read_text())["code"] == 0
    assert all(list((tmp_path / f"tmp{rank}").glob("pyramidion-*")) == [] for rank in (0, 1))


@pytest.mark.reliability
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["process", "launcher"])
def test_death_of_a_node_ends_the_other_and_one_node_resumes(victim: str, words: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    many = ["--trainer.max_epochs", "60", "--trainer.check_val_every_n_epoch", "60"]
    first, second = (start(launcher([*words, *many]), tmp_path, rank, address) for rank in (0, 1))
    checkpoint = RunDir.of(tmp_path / "run").last_checkpoint
    wait_until(lambda: checkpoint.exists() or first.poll() is not None, "the first checkpoint")
    if victim == "launcher":
        second.kill()
    else:
        children = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
    code, output = ended(first)
    assert code == 1, output
    assert output.count("error: ") == 1
    expected = "node 1 of this run was " + ("lost" if victim == "launcher" else "terminated by SIGKILL")
    assert expected in output
    ended(second)
    alone = ["--trainer.num_nodes", "1", "--trainer.devices", "2", *many]
    resumed = start([*words, *alone, "--trainer.num_nodes", "1"], tmp_path, 0, address)
    wait_until(lambda: "resuming from" in text_of(tmp_path / "run" / "attempts" / "2" / "log.txt"), "the next attempt")
    resumed.terminate()
    code, output = ended(resumed)
    assert code == 75, output


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
