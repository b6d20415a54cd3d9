"""The executor around another one: what the inner executor runs, and when the end of an attempt is reported."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

import pytest

from pipelines.run_folder.attempt_files import AttemptExit, AttemptFailure
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import AttemptDir, RunDir
from service.executors.base import AttemptSpec, ExecutorUnavailable, Observation
from service.resources import ResourceCounts
from service.run_sync.commits import JobObjects
from service.run_sync.executor import SyncedExecutor
from service.run_sync.opening import run_storage_url, scratch_root
from service.run_sync.order import KEPT, STORAGE_FAILED, NodeOrder
from service.run_sync.push import FolderPusher
from service.run_sync.starting import restore_start
from service.settings import Settings
from tests.service.run_sync.folder_objects import FolderObjects, unavailable
from tests.service.waiting import wait_until


class Nodes:
    """An executor whose attempts are what a test says."""

    is_bound_to_host = False

    def __init__(self) -> None:
        self.started: list[AttemptSpec] = []
        self.stopped: list[tuple[Path, bool]] = []
        self.state = Observation("absent")

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        pass

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls()

    def capacity(self) -> ResourceCounts:
        return {"cpus": 3}

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        return ()

    def start(self, spec: AttemptSpec) -> None:
        self.started.append(spec)
        self.state = Observation("alive")

    def poll(self, folder: Path) -> Observation:
        return self.state

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        self.stopped.append((folder, kill))

    def sweep(self, folder: Path) -> bool:
        return True

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        pass


class Bench:
    """An executor with one attempt."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root=root / "root", run_storage="s3://bucket/runs", run_scratch=root / "scratch")
        self.nodes, self.store = Nodes(), FolderObjects(root / "storage")
        self.executor = SyncedExecutor(self.nodes, self.settings, self.store)
        self.run_folder = self.settings.run_dir("job1")
        write_atomic(self.run_folder / "job.yaml", "name: j")
        self.folder = RunDir.of(self.run_folder).attempt(1)
        self.node = scratch_root(self.settings) / "1" / "job1"

    def start(self) -> None:
        """Start the attempt as the supervisor does: until it is there."""
        command = ("train", "--run-dir", str(self.run_folder))
        environment = {"PYRAMIDION_ATTEMPT_DIR": str(self.folder), "AWS_SECRET_ACCESS_KEY": "of the trainer"}
        spec = AttemptSpec(self.folder, command, environment, self.folder, 8.0, {"cpus": 1})
        while not self.nodes.started:
            assert self.poll().kind == "absent"
            self.executor.start(spec)
            self.until_not("pending")

    def poll(self) -> Observation:
        """Return the state once it is known."""
        return self.until_not("pending")

    def until_not(self, kind: str) -> Observation:
        wait_until(lambda: self.executor.poll(self.folder).kind != kind, f"another state than {kind}", pause_s=0.005)
        return self.executor.poll(self.folder)

    def pusher(self) -> FolderPusher:
        objects = JobObjects(self.store, "job1")
        return FolderPusher(self.node, objects, 1, restore_start(self.node, objects, 1))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the service")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "here")
    bench = Bench(tmp_path)
    bench.settings.root.mkdir(exist_ok=True)
    yield bench
    bench.executor.sweep_orphans((), bench.settings.jobs_dir)


def test_inner_executor_runs_the_command_in_the_scratch_folder_below_the_nodes_program(bench: Bench) -> None:
    bench.start()
    [spec] = bench.nodes.started
    assert spec.folder == spec.cwd == bench.node / "attempts" / "1"
    assert spec.command[-5:] == ("-m", "service.run_sync.node", "train", "--run-dir", str(bench.node))
    assert spec.grace_s == 8 + bench.settings.run_push_timeout_s
    assert spec.environment["PYRAMIDION_ATTEMPT_DIR"] == str(spec.folder)
    restored = bench.pusher()
    assert restored is not None
    assert (bench.node / "job.yaml").read_text() == "name: j"


def test_node_reads_its_credentials_and_the_command_gets_none_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRAMIDION_NODE_AWS_SECRET_ACCESS_KEY", "of nodes")
    bench.start()
    [spec] = bench.nodes.started
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYRAMIDION_NODE_AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.delenv(name)
        for name, text in spec.environment.items():
            patch.setenv(name, text)
        order, environment = NodeOrder.take()
        assert (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_DEFAULT_REGION"]) == ("of nodes", "here")
    assert (order.job_id, order.attempt, order.folder) == ("job1", 1, bench.node)
    assert order.storage.startswith("s3://bucket/runs/")
    assert environment["AWS_SECRET_ACCESS_KEY"] == "of the trainer"
    assert "AWS_DEFAULT_REGION" not in environment
    assert not any("of nodes" in text for text in environment.values())


def test_end_is_reported_once_all_files_have_arrived(bench: Bench) -> None:
    bench.start()
    pusher = bench.pusher()
    write_atomic(bench.node / "result.json", "{}")
    AttemptExit(7).write(AttemptDir(bench.node / "attempts" / "1").exit_json)
    pusher.push()
    bench.nodes.state = Observation("lost")
    assert bench.executor.poll(bench.folder).kind == "alive"
    assert bench.until_not("alive") == Observation("exited", 7)
    assert (bench.run_folder / "result.json").read_text() == "{}"
    assert bench.executor.sweep(bench.folder)


def test_nothing_is_decided_about_an_end_while_the_storage_is_away(bench: Bench) -> None:
    bench.start()
    bench.store.before = unavailable
    bench.nodes.state = Observation("lost")

    def is_unknown() -> bool:
        try:
            return bench.executor.poll(bench.folder).kind == "lost"
        except ExecutorUnavailable as error:
            return "the storage does not answer" in str(error)

    wait_until(is_unknown, "an error")
    with pytest.raises(ExecutorUnavailable):
        bench.executor.poll(bench.folder)
    bench.store.before = lambda: None
    wait_until(lambda: is_unknown() and not bench.executor._transfers[bench.folder].problem, "the storage")
    assert bench.executor.poll(bench.folder).kind == "lost"


def test_attempt_that_could_not_store_its_files_says_so(bench: Bench) -> None:
    bench.start()
    bench.nodes.state = Observation("exited", STORAGE_FAILED)
    write_atomic(bench.node / "attempts/1/log.txt", "no storage at x\n")
    assert bench.until_not("alive").exit_code == STORAGE_FAILED
    failure = AttemptFailure.read(AttemptDir(bench.folder).failure_json)
    assert "PYRAMIDION_RUN_PUSH_TIMEOUT_S" in failure.message
    assert failure.message.endswith("no storage at x")


def test_attempt_that_is_cancelled_while_its_start_is_stored_is_not_started(bench: Bench) -> None:
    bench.store.before = unavailable
    spec = AttemptSpec(bench.folder, ("train",), {}, bench.folder, 8.0, {"cpus": 1})
    bench.executor.start(spec)
    assert bench.executor.poll(bench.folder).kind == "pending"
    bench.executor.stop(bench.folder)
    assert bench.executor.poll(bench.folder).kind == "absent"
    assert bench.executor.sweep(bench.folder)
    assert bench.nodes.started == bench.nodes.stopped == []


def test_stopped_attempt_has_time_to_store_its_files(bench: Bench) -> None:
    bench.start()
    for kill in (False, True):
        bench.executor.stop(bench.folder, kill=kill)
    assert bench.nodes.stopped == [(bench.node / "attempts" / "1", False)]
    assert not bench.executor.sweep(bench.folder)


def test_supervisor_that_starts_again_finds_the_attempt(bench: Bench) -> None:
    bench.start()
    again = SyncedExecutor(bench.nodes, bench.settings, bench.store)
    assert again.poll(bench.folder).kind == "alive"
    bench.pusher().push()
    again.sweep_orphans((), bench.settings.jobs_dir)


def test_scratch_folders_of_ended_attempts_are_removed_unless_they_hold_what_was_not_stored(bench: Bench) -> None:
    scratch = scratch_root(bench.settings)
    for job in ("job1", "job2", "job3"):
        write_atomic(scratch / "1" / job / "attempts" / "1" / "exit.json", "{}")
    (scratch / "1" / "job3" / KEPT).touch()
    bench.executor.sweep_orphans([bench.folder], bench.settings.jobs_dir)
    assert {path.name for path in (scratch / "1").iterdir()} == {"job1", "job3"}


def test_two_roots_never_share_objects_or_scratch_folders(tmp_path: Path) -> None:
    roots = [Settings(root=tmp_path / name, run_storage="s3://b/p", run_scratch=tmp_path) for name in ("a", "b", "a")]
    assert len({run_storage_url(root) for root in roots}) == len({scratch_root(root) for root in roots}) == 2


def test_order_of_a_node_is_no_part_of_its_command_line(bench: Bench) -> None:
    bench.start()
    [spec] = bench.nodes.started
    order = json.loads(spec.environment["PYRAMIDION_NODE_ORDER"])
    assert not any(order["storage"] in word for word in spec.command)
