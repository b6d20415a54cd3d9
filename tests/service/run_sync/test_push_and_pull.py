"""Push and pull of one attempt: what arrives, when, and what is refused."""

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.run_folder.files import write_atomic
from service.run_sync.commits import CommitDamaged, JobObjects, stored_jobs
from service.run_sync.pull import FolderPuller
from service.run_sync.push import FolderPusher
from service.run_sync.push_loop import PushLoop
from service.run_sync.starting import publish_start, restore_start
from service.storage.base import StorageError
from service.storage.objects import ObjectStore
from service.storage.opening import open_run_storage
from tests.service.run_sync.folder_objects import FolderObjects, unavailable
from tests.service.waiting import wait_until


@dataclass
class Attempt:
    """The first attempt of a job: its node, the run folder of the service, and the storage between them."""

    node: Path
    service: Path
    objects: JobObjects

    def __post_init__(self) -> None:
        write_atomic(self.service / "job.yaml", "name: j")
        publish_start(self.service, self.objects, 1)
        self.pusher = FolderPusher(self.node, self.objects, 1, restore_start(self.node, self.objects, 1))
        self.puller = FolderPuller(self.service, self.objects, 1)

    @property
    def store(self) -> FolderObjects:
        assert isinstance(self.objects.store, FolderObjects)
        return self.objects.store

    def transfer(self) -> None:
        assert self.pusher.push()
        self.puller.pull()

    def append(self, text: str, name: str = "events.jsonl") -> None:
        (self.node / name).parent.mkdir(parents=True, exist_ok=True)
        with (self.node / name).open("a") as file:
            file.write(text)

    def arrived(self) -> dict[str, str]:
        files = (path for path in self.service.rglob("*") if path.is_file())
        return {path.relative_to(self.service).as_posix(): path.read_text() for path in files}


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    objects = JobObjects(FolderObjects(tmp_path / "storage"), "job")
    return Attempt(tmp_path / "node", tmp_path / "service", objects)


def test_document_reaches_the_node(attempt: Attempt) -> None:
    assert (attempt.node / "job.yaml").read_text() == "name: j"


def test_files_of_the_attempt_reach_the_service(attempt: Attempt) -> None:
    write_atomic(attempt.node / "checkpoints/last.ckpt", "weights")
    attempt.append("one\n")
    attempt.transfer()
    attempt.append("two\n")
    (attempt.node / "job.yaml").unlink()
    attempt.transfer()
    assert attempt.arrived() == {"checkpoints/last.ckpt": "weights", "events.jsonl": "one\ntwo\n"}


def test_files_that_are_being_written_are_not_stored(attempt: Attempt) -> None:
    for name in (".lock", "checkpoints/last.writing", ".model.x/model.json"):
        write_atomic(attempt.node / name, "half")
    (attempt.node / "link").symlink_to("job.yaml")
    attempt.transfer()
    assert attempt.arrived() == {"job.yaml": "name: j"}


def test_exit_file_arrives_after_everything_else(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("result.json", "attempts/1/exit.json", "plots/a.png"):
        write_atomic(attempt.node / name, "content")
    write_atomic(attempt.node / "attempts/1/exit.json", "content")
    attempt.append("end\n")
    order: list[str] = []
    put = FolderPuller._put_in_place

    def recorded(self: FolderPuller, target: Path, *more: object) -> None:
        order.append(target.name)
        put(self, target, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(FolderPuller, "_put_in_place", recorded)
    attempt.transfer()
    assert (len(order), order[-1]) == (4, "exit.json")


def test_checkpoint_whose_content_is_not_stored_completely_does_not_appear(attempt: Attempt) -> None:
    write_atomic(attempt.node / "checkpoints/last.ckpt", "old")
    attempt.transfer()
    write_atomic(attempt.node / "checkpoints/last.ckpt", "new")
    attempt.store.after = unavailable
    with pytest.raises(StorageError):
        attempt.pusher.push()
    attempt.store.after = lambda: None
    attempt.puller.pull()
    assert attempt.arrived()["checkpoints/last.ckpt"] == "old"


def test_content_that_was_changed_in_the_storage_is_refused(attempt: Attempt) -> None:
    write_atomic(attempt.node / "result.json", "right")
    attempt.pusher.push()
    pieces = {key: (attempt.store.folder / key).read_text() for key in attempt.store.keys("") if "/pieces/" in key}
    [piece] = [key for key, content in pieces.items() if content == "right"]
    (attempt.store.folder / piece).write_text("wrong")
    with pytest.raises(CommitDamaged, match=r"result\.json"):
        attempt.puller.pull()
    assert attempt.arrived() == {"job.yaml": "name: j"}


@pytest.mark.parametrize("path", ["../escape", "/etc/escape", "a/../../escape", ".hidden", "a//b", "", "a\0b"])
def test_commit_of_a_node_names_no_path_outside_the_run_folder(attempt: Attempt, path: str) -> None:
    commit = {"writer": "0" * 8, "used_from": 1, "files": {path: {"size": 0, "sha256": "0" * 64, "pieces": []}}}
    attempt.objects.put_commit(1, 1, json.dumps(commit).encode())
    with pytest.raises(CommitDamaged, match="is not the path of a file"):
        attempt.puller.pull()


def test_growing_file_has_few_pieces_and_each_byte_is_stored_a_few_times(attempt: Attempt) -> None:
    stored = 0

    def count() -> None:
        nonlocal stored
        stored += 1

    attempt.store.after = count
    for number in range(64):
        attempt.append(f"line {number:04d}\n")
        attempt.pusher.commit()
    newest = attempt.objects.newest_commit(1)
    assert newest is not None
    state = newest[1].files["events.jsonl"]
    assert state is not None
    assert len(state.pieces) == 1, "64 parts of one size are merged into one"
    assert stored == 2 * 64 + 1, "a piece and a commit each time, and the newest commit was read"


def test_service_that_starts_again_reads_only_what_is_missing(attempt: Attempt) -> None:
    attempt.append("one\n")
    write_atomic(attempt.node / "checkpoints/last.ckpt", "weights")
    attempt.transfer()
    attempt.append("two\n")
    attempt.pusher.push()
    puller = FolderPuller(attempt.service, attempt.objects, 1)
    requests: list[None] = []
    attempt.store.before = lambda: requests.append(None)
    puller.pull()
    assert attempt.arrived()["events.jsonl"] == "one\ntwo\n"
    assert len(requests) == 3, "the list of commits, the newest, and the end of the events"


def test_unused_objects_are_deleted_and_the_others_suffice(attempt: Attempt) -> None:
    for number in range(5):
        write_atomic(attempt.node / "checkpoints/last.ckpt", f"weights {number}")
        attempt.append(f"{number}\n")
        attempt.transfer()
    attempt.puller.delete_unused()
    kinds = [key.split("/")[-2] for key in attempt.store.keys("")]
    assert kinds.count("commits") == 1
    publish_start(attempt.service, attempt.objects, 2)
    other = attempt.node.parent / "other"
    restore_start(other, attempt.objects, 2)
    assert (other / "checkpoints/last.ckpt").read_text() == "weights 4"
    assert (other / "events.jsonl").read_text() == "0\n1\n2\n3\n4\n"


def test_next_attempt_stores_nothing_again(attempt: Attempt) -> None:
    write_atomic(attempt.node / "checkpoints/last.ckpt", "weights")
    attempt.transfer()
    publish_start(attempt.service, attempt.objects, 2)
    assert list(attempt.store.keys("jobs/job/2/")) == ["jobs/job/2/commits/0000000000"]


def test_node_refuses_an_attempt_that_another_process_has_pushed(attempt: Attempt) -> None:
    write_atomic(attempt.node / "result.json", "{}")
    attempt.pusher.push()
    with pytest.raises(CommitDamaged, match="has commits of another process"):
        restore_start(attempt.node.parent / "other", attempt.objects, 1)


@pytest.fixture
def pushes(attempt: Attempt) -> Iterator[PushLoop]:
    pushes = PushLoop(attempt.pusher)
    pushes.start()
    yield pushes
    attempt.store.before = lambda: None
    assert pushes.finish(60) is None


def test_events_arrive_while_a_checkpoint_is_being_stored(attempt: Attempt, pushes: PushLoop) -> None:
    is_over = threading.Event()

    def block_the_upload() -> None:
        if threading.current_thread().name == "upload":
            is_over.wait(60)

    attempt.store.before = block_the_upload
    write_atomic(attempt.node / "checkpoints/last.ckpt", "weights")
    try:
        wait_until(lambda: any(one.name == "upload" for one in threading.enumerate()), "the upload")
        attempt.append("event\n")
        wait_until(attempt.puller.pull, "the events")
        assert attempt.arrived() == {"job.yaml": "name: j", "events.jsonl": "event\n"}
        attempt.puller.delete_unused()
    finally:
        is_over.set()
    wait_until(lambda: attempt.puller.pull() and "checkpoints/last.ckpt" in attempt.arrived(), "the checkpoint")


def test_storage_that_was_away_gets_everything(attempt: Attempt, pushes: PushLoop) -> None:
    attempt.store.before = unavailable
    attempt.append("event\n")
    wait_until(lambda: pushes._problem, "a push that fails")
    write_atomic(attempt.node / "result.json", "{}")
    attempt.store.before = lambda: None
    assert pushes.finish(60) is None
    attempt.puller.pull()
    assert attempt.arrived() == {"job.yaml": "name: j", "events.jsonl": "event\n", "result.json": "{}"}


def test_last_file_follows_everything_else_and_is_never_on_the_node(attempt: Attempt) -> None:
    """The executor may watch the disk of the node, where exit.json is that of the shim."""
    attempt.append("event\n")
    last = ("attempts/1/exit.json", b'{"code": 7}')
    pushes, requests = PushLoop(attempt.pusher), itertools.count()

    def before() -> None:
        if next(requests) >= 2:  # after a piece and a commit
            unavailable()

    attempt.store.before = before
    assert pushes.finish(0.01, last) == "the storage does not answer"
    attempt.store.before = lambda: None
    attempt.puller.pull()
    assert attempt.arrived() == {"job.yaml": "name: j", "events.jsonl": "event\n"}
    assert pushes.finish(60, last) is None
    attempt.puller.pull()
    assert attempt.arrived()["attempts/1/exit.json"] == '{"code": 7}'
    assert not (attempt.node / "attempts").exists()


def test_end_reports_a_storage_that_stays_away(attempt: Attempt) -> None:
    attempt.append("event\n")
    attempt.store.before = unavailable
    assert PushLoop(attempt.pusher).finish(0.01) == "the storage does not answer"


@pytest.fixture(params=["s3", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def s3_objects(request: pytest.FixtureRequest) -> ObjectStore:
    return open_run_storage(request.getfixturevalue(f"{request.param}_url"), 20)


def test_attempt_travels_through_s3(s3_objects: ObjectStore, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "node", tmp_path / "service", JobObjects(s3_objects, "job"))
    attempt.append("one\n")
    attempt.append("x" * 100, "attempts/1/log.txt")
    attempt.transfer()
    attempt.append("two\n")
    write_atomic(attempt.node / "checkpoints/last.ckpt", b"\0" * (17 << 20))
    attempt.transfer()
    assert attempt.arrived()["events.jsonl"] == "one\ntwo\n"
    assert (attempt.service / "checkpoints/last.ckpt").stat().st_size == 17 << 20
    assert stored_jobs(s3_objects) == {"job"}
    attempt.puller.delete_unused()
    publish_start(attempt.service, attempt.objects, 2)
    restore_start(tmp_path / "other", attempt.objects, 2)
    assert (tmp_path / "other/events.jsonl").read_text() == "one\ntwo\n"
    attempt.objects.delete_all()
    assert stored_jobs(s3_objects) == set()
