"""The state of an attempt of the executor `ray`, from Ray's table and from the attempt's folder."""

from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import ShimProcess
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.executors.base import AttemptSpec
from service.executors.ray.order import OrderFile
from service.executors.ray.states import (
    FOLDER_KEY,
    SWEPT,
    AttemptProgress,
    RayJob,
    RayState,
    observed,
    submission_id,
)

NEW, ORDERED, STARTED = AttemptProgress(False, False), AttemptProgress(True, False), AttemptProgress(False, True)
GRACE_S = 10.0
SECRET = "s3cret"


def seen(progress: AttemptProgress, state: RayState | None, silent_s: float = 0.0, **more: int) -> str:
    job = None if state is None else RayJob("a", state, **more)
    return observed(progress, job, silent_s, GRACE_S).kind


@pytest.mark.parametrize(
    ("progress", "state", "silent_s", "kind"),
    [
        (NEW, None, 0.0, "absent"),
        # The supervisor died between the order and its submission.
        (ORDERED, None, 0.0, "absent"),
        (ORDERED, RayState.PENDING, 0.0, "pending"),
        # The driver of several nodes waits for their resources.
        (ORDERED, RayState.RUNNING, 0.0, "pending"),
        # It was stopped meanwhile, and ends.
        (NEW, RayState.RUNNING, 0.0, "alive"),
        (STARTED, RayState.RUNNING, 0.0, "alive"),
        # Its order was withdrawn, so no driver will run it.
        (NEW, RayState.PENDING, 0.0, "lost"),
        # Ray gave up before a driver ran: the attempt is submitted again.
        (ORDERED, RayState.FAILED, 0.0, "absent"),
        (NEW, RayState.STOPPED, 0.0, "lost"),
        # The driver was killed: the shim has its grace period for a checkpoint.
        (STARTED, RayState.FAILED, 14.0, "alive"),
        (STARTED, RayState.FAILED, 16.0, "lost"),
        # The head has forgotten it: raylets without a head end after a minute.
        (STARTED, None, 70.0, "alive"),
        (STARTED, None, 80.0, "lost"),
    ],
)
def test_state_of_an_attempt(progress: AttemptProgress, state: RayState | None, silent_s: float, kind: str) -> None:
    assert seen(progress, state, silent_s) == kind


def test_attempt_whose_driver_has_swept_it_is_lost_at_once() -> None:
    assert seen(STARTED, RayState.FAILED, exit_code=SWEPT) == "lost"
    assert seen(STARTED, RayState.FAILED, exit_code=1) == "alive"


def test_row_of_rays_table_is_read() -> None:
    row = {
        "type": "SUBMISSION", "submission_id": "a", "status": "FAILED", "driver_node_id": "n1", "driver_exit_code": -9,
        "metadata": {FOLDER_KEY: "/x/1"}, "message": "killed", "end_time": 5, "entrypoint": "exec x",
    }  # fmt: skip
    assert RayJob.of(row) == RayJob("a", RayState.FAILED, "n1", Path("/x/1"), "killed", 5, -9)
    assert RayJob.of({"type": "DRIVER", "submission_id": None, "job_id": "01", "status": "RUNNING"}) is None


def test_submission_ids_name_the_attempt_and_differ_between_services() -> None:
    one, other = Path("/a/jobs/j7/attempts/2"), Path("/b/jobs/j7/attempts/2")
    assert submission_id(one).startswith("pyramidion-j7-2-")
    assert submission_id(one) == submission_id(one) != submission_id(other)


@pytest.fixture
def spec(tmp_path: Path) -> AttemptSpec:
    return AttemptSpec(tmp_path, ("sh", "-c", "x"), {"KEY": SECRET}, tmp_path, 5.0, {"cpus": 2})


def test_order_is_read_by_its_owner_only_and_taken_once(tmp_path: Path, spec: AttemptSpec) -> None:
    file = OrderFile(tmp_path)
    file.write(spec)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    assert file.take(("GPU-1",)) == AttemptSpec(
        tmp_path, ("sh", "-c", "x"), {"KEY": SECRET, ATTEMPT_DIR_VARIABLE: str(tmp_path)}, tmp_path, 5.0, {}, ("GPU-1",)
    )
    assert file.take(()) is None
    file.forget()
    assert list(tmp_path.iterdir()) == []


def test_withdrawn_order_cannot_be_taken(tmp_path: Path, spec: AttemptSpec) -> None:
    file = OrderFile(tmp_path)
    file.write(spec)
    file.withdraw()
    assert file.take(()) is None
    file.withdraw()


def test_progress_follows_the_files_of_an_attempt(tmp_path: Path, spec: AttemptSpec) -> None:
    file, found = OrderFile(tmp_path), [AttemptProgress.of(tmp_path)]
    file.write(spec)
    found.append(AttemptProgress.of(tmp_path))
    file.take(())
    found.append(AttemptProgress.of(tmp_path))
    ShimProcess(pid=1).write(AttemptDir(tmp_path).run_json)
    file.forget()
    found.append(AttemptProgress.of(tmp_path))
    assert found == [NEW, ORDERED, STARTED, STARTED]
