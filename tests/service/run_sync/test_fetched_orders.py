"""Attempts on Ray whose nodes share no disk with the service; a test is Ray, by its table, and the node."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import AttemptExit, AttemptFailure
from pipelines.run_folder.files import remove_folder, write_atomic
from pipelines.run_folder.layout import AttemptDir, RunDir
from service.executors.base import AttemptSpec, Observation
from service.executors.ray import cluster
from service.executors.ray.executor import RayExecutor
from service.executors.ray.local_cluster import local_cluster
from service.executors.ray.states import NO_ORDER, submission_id
from service.run_sync.commits import JobObjects
from service.run_sync.executor import SyncedExecutor
from service.run_sync.handover import Decision, Ending, Handover
from service.run_sync.opening import scratch_root
from service.run_sync.order import STORAGE_FAILED, NodeOrder
from service.run_sync.push import FolderPusher
from service.run_sync.starting import restore_start
from service.settings import Settings
from tests.service.executors.ray_stand_in import RayTable, ray_table
from tests.service.run_sync.folder_objects import FolderObjects, unavailable
from tests.service.waiting import wait_until

SECRET, STORAGE_SECRET = "s3cret-of-the-trainer", "s3cret-of-the-storage"


class Remote:
    """A job with one attempt, its service, and the disk of its node."""

    def __init__(self, folder: Path, table: RayTable) -> None:
        self.table, self.store = table, FolderObjects(folder / "storage")
        self.settings = Settings(
            root=folder / "root", executor="ray", ray_address=table.address, run_storage="s3://bucket/runs",
            run_scratch=folder / "scratch",
        )  # fmt: skip
        self.settings.root.mkdir()
        self.handover = Handover(JobObjects(self.store, "job1"), 1)
        self.executor = self.new_executor()
        self.run_folder, self.node = self.settings.run_dir("job1"), folder / "node"
        write_atomic(self.run_folder / "job.yaml", "name: j")
        self.folder = RunDir.of(self.run_folder).attempt(1)
        self.scratch = scratch_root(self.settings) / "1" / "job1" / "attempts" / "1"
        self.name = submission_id(self.scratch.resolve())

    def new_executor(self) -> SyncedExecutor:
        """Return the executor of a supervisor that has started now."""
        return SyncedExecutor(RayExecutor.from_settings(self.settings), self.settings, self.store)

    def submit(self) -> "Remote":
        """Start the attempt as the supervisor does: until Ray has its job."""
        command = ("train", "--run-dir", str(self.run_folder))
        spec = AttemptSpec(self.folder, command, {"KEY": SECRET}, self.folder, 8.0, {"cpus": 1})
        while not self.table.jobs:
            self.until("absent")
            self.executor.start(spec)
        return self

    def becomes(self, **states: object) -> None:
        """Change the job in Ray's table."""
        self.table.jobs[self.name] |= states

    def run(self) -> None:
        """Let a driver take the order and run."""
        self.becomes(status="RUNNING", driver_node_id="n1")
        assert self.handover.take("driver") is not None

    def until(self, kind: str) -> Observation:
        """Return the state once it is of a kind."""
        wait_until(lambda: self.executor.poll(self.folder).kind == kind, kind, pause_s=0.005)
        return self.executor.poll(self.folder)

    def until_seen(self, decision: Decision) -> None:
        """Wait until the service knows a decision."""

        def is_known() -> bool:
            mirror = self.executor._transfer(self.folder)._mirror
            return mirror is not None and mirror.decision is decision

        wait_until(is_known, decision, pause_s=0.005)

    def fail_over(self) -> None:
        """Let a supervisor on another host take over."""
        self.executor._transfers.pop(self.folder).stop()
        for thread in threading.enumerate():
            if thread.name == "transfer of job1":
                thread.join()
        remove_folder(self.scratch)
        self.executor = self.new_executor()

    def sweep(self) -> None:
        wait_until(lambda: self.executor.sweep(self.folder), "the sweep", pause_s=0.005)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    for name in (cluster.TOKEN, cluster.TOKEN_PATH, cluster.AUTH_MODE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cluster, "FRESH_S", 0.0)
    monkeypatch.setattr(cluster, "SILENCE_S", 0.0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORAGE_SECRET)
    with ray_table() as table:
        remote = Remote(tmp_path, table)
        yield remote
        remote.executor.sweep_orphans((), remote.settings.jobs_dir)


def test_order_reaches_the_node_through_the_storage_and_no_secret_is_in_rays_table(remote: Remote) -> None:
    remote.submit()
    [job] = remote.table.jobs.values()
    assert "-m service.run_sync.ray_driver" in job["entrypoint"]
    assert SECRET not in str(job)
    order = remote.handover.take("driver")
    assert order is not None
    assert order["environment"]["KEY"] == SECRET
    assert order["command"][-3:] == ["train", "--run-dir", str(remote.scratch.parents[1])]
    node = NodeOrder.parse(order["environment"]["PYRAMIDION_NODE_ORDER"])
    assert (node.job_id, node.attempt, node.folder) == ("job1", 1, remote.scratch.parents[1])


def test_no_credentials_of_the_storage_are_in_it(remote: Remote) -> None:
    remote.submit()
    assert not [
        path for path in remote.store.folder.rglob("*") if path.is_file() and STORAGE_SECRET in path.read_text()
    ]


def test_raylet_that_the_service_starts_can_reach_the_storage(remote: Remote) -> None:
    assert local_cluster(remote.settings).environment["AWS_SECRET_ACCESS_KEY"] == STORAGE_SECRET
    without = remote.settings.model_copy(update={"run_storage": None})
    assert "AWS_SECRET_ACCESS_KEY" not in local_cluster(without).environment


def test_end_on_the_node_is_reported_once_all_files_have_arrived(remote: Remote) -> None:
    remote.submit().run()
    assert remote.until("alive")
    objects = JobObjects(remote.store, "job1")
    pusher = FolderPusher(remote.node, objects, 1, restore_start(remote.node, objects, 1))
    write_atomic(remote.node / "result.json", "{}")
    AttemptExit(75).write(AttemptDir(remote.node / "attempts/1").exit_json)
    pusher.push()
    remote.handover.report(Ending(exit=AttemptExit(75)))
    remote.becomes(status="SUCCEEDED", driver_exit_code=0)
    assert remote.until("exited") == Observation("exited", 75)
    assert (remote.run_folder / "result.json").read_text() == "{}"
    remote.sweep()
    assert remote.table.jobs.keys() == {remote.name}, "no job kills what has ended"


def test_attempt_that_could_not_store_its_files_says_why(remote: Remote) -> None:
    remote.submit().run()
    remote.handover.report(Ending(exit=AttemptExit(STORAGE_FAILED), log="ERROR: no storage at x"))
    assert remote.until("exited").exit_code == STORAGE_FAILED
    assert AttemptFailure.read(AttemptDir(remote.folder).failure_json).message.endswith("ERROR: no storage at x")


def test_attempt_that_waits_in_ray_never_runs_after_a_stop(remote: Remote) -> None:
    remote.submit().until("pending")
    remote.executor.stop(remote.folder)
    remote.until_seen(Decision.WITHDRAWN)
    assert remote.until("lost")
    remote.sweep()
    assert remote.handover.take("late driver") is None
    assert not (remote.store.folder / "jobs/job1/1/handover/order").exists()


def test_attempt_that_was_taken_just_before_its_sweep_is_killed_on_its_node(remote: Remote) -> None:
    remote.submit().until("pending")
    remote.run()
    killer = f"{remote.name}-kill"
    wait_until(lambda: remote.executor.sweep(remote.folder) or killer in remote.table.jobs, "the sweep", pause_s=0.005)
    assert remote.table.jobs[killer]["entrypoint_label_selector"] == {"ray.io/node-id": "n1"}
    assert not remote.executor.sweep(remote.folder)
    remote.table.jobs[killer]["status"] = "SUCCEEDED"
    remote.sweep()


def test_stopped_attempt_is_not_decided_while_the_storage_is_away(remote: Remote) -> None:
    remote.submit().until_seen(Decision.WAITING)
    remote.store.before = unavailable
    remote.executor.stop(remote.folder)
    assert not remote.executor.sweep(remote.folder)
    assert remote.executor._transfer(remote.folder)._mirror.decision is Decision.WAITING  # type: ignore[union-attr]
    remote.store.before = lambda: None
    remote.sweep()
    assert remote.handover.take("late driver") is None


def test_job_that_ray_has_ended_or_forgotten_is_not_submitted_again_once_a_driver_has_its_order(remote: Remote) -> None:
    remote.submit().until("pending")
    assert remote.handover.take("driver") is not None
    remote.becomes(status="FAILED", driver_exit_code=-9)
    assert remote.until("alive")
    remote.table.jobs.clear()
    remote.until("alive")
    assert remote.executor.poll(remote.folder).kind == "alive"


def test_job_that_ray_ended_before_a_driver_ran_is_submitted_again(remote: Remote) -> None:
    remote.submit().until("pending")
    remote.becomes(status="FAILED", message="the node was removed")
    remote.until("absent")
    remote.executor.start(AttemptSpec(remote.folder, ("train",), {}, remote.folder, 8.0, {"cpus": 1}))
    assert remote.until("pending")
    assert remote.handover.take("driver") is not None


def test_driver_that_cannot_fetch_the_order_ends_the_attempt_with_its_reason(remote: Remote) -> None:
    remote.submit().until("pending")
    message = "failed with exit code 4, last available logs:\nthe order of the attempt cannot be fetched: no boto3\n"
    remote.becomes(status="FAILED", driver_exit_code=NO_ORDER, message=message)
    assert remote.until("lost").reason == "the order of the attempt cannot be fetched: no boto3"
    remote.sweep()


def test_supervisor_on_another_host_sees_the_same_attempt(remote: Remote) -> None:
    remote.submit().until("pending")
    remote.fail_over()
    remote.until_seen(Decision.WAITING)
    assert remote.executor.poll(remote.folder).kind == "pending"
    remote.run()
    remote.fail_over()
    remote.until_seen(Decision.TAKEN)
    remote.becomes(status="FAILED", driver_exit_code=-9)
    assert remote.executor.poll(remote.folder).kind == "alive"


def test_attempt_that_an_earlier_supervisor_has_withdrawn_is_not_started_again(remote: Remote) -> None:
    remote.handover.withdraw()
    assert remote.until("lost").reason == "it was withdrawn before it ran"


def test_files_of_a_driver_in_the_same_scratch_folder_are_kept(remote: Remote) -> None:
    """The service and the node may be one machine."""
    remote.submit()
    content = json.loads((remote.scratch / ".order.json").read_text())
    remote.run()
    remote.until_seen(Decision.TAKEN)
    assert json.loads((remote.scratch / ".order.json").read_text()) == content
