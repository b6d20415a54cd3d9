"""Orders in files, for shims that another system starts, and claims of attempts."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import ShimProcess
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.child_process import child_environment, python_command
from service.executors.base import AttemptSpec
from service.executors.shim_contract import ORDER_FILE_OPTION, claim, order_of, order_path, write_order
from service.shim import NOT_STARTED, _order_from_file


def test_order_in_a_file_is_private_and_removed_before_the_command_runs(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRET": "s3cret"}
    command = (
        "sh",
        "-c",
        f"ls -A {tmp_path} | grep -v ^.run; echo $SECRET $CUDA_VISIBLE_DEVICES ${ATTEMPT_DIR_VARIABLE}",
    )
    write_order(tmp_path, order_of(AttemptSpec(tmp_path, command, environment, tmp_path, 60.0, {"cpus": 1}), None))
    assert stat.S_IMODE(order_path(tmp_path).stat().st_mode) == 0o600
    done = subprocess.run(
        python_command("service.shim", str(tmp_path), ORDER_FILE_OPTION),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        env=child_environment({**os.environ, "CUDA_VISIBLE_DEVICES": "7"}),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"run.json\ns3cret 7 {tmp_path}\n")
    assert json.loads((tmp_path / "exit.json").read_text())["code"] == 0


def test_devices_that_the_service_has_chosen_are_part_of_the_order(tmp_path: Path) -> None:
    order = order_of(AttemptSpec(tmp_path, ("true",), {}, tmp_path, 60.0, {"cpus": 1}), "")
    assert (order["environment"]["CUDA_VISIBLE_DEVICES"], order["inherited"]) == ("", [])


def test_shim_without_an_order_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        _order_from_file(AttemptDir(tmp_path))
    assert end.value.code == NOT_STARTED


def test_attempt_that_an_executor_has_claimed_does_not_run(tmp_path: Path) -> None:
    assert claim(tmp_path, ShimProcess())
    assert not claim(tmp_path, ShimProcess(pid=1))
    with pytest.raises(SystemExit) as end:
        _order_from_file(AttemptDir(tmp_path))
    assert end.value.code == 0
    assert ShimProcess.read(AttemptDir(tmp_path).run_json) == ShimProcess()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
