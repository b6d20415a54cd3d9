"""After writes, pushes, pulls, interruptions and restarts in any order, the folder of the service equals an earlier
state of the folder of an attempt."""

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipelines.run_folder.files import write_atomic
from service.run_sync.commits import JobObjects
from service.run_sync.pull import FolderPuller
from service.run_sync.push import FolderPusher, Stored
from service.run_sync.scanning import Changes
from service.run_sync.starting import publish_start, restore_start
from service.storage.base import StorageError, StorageUnavailable
from tests.service.run_sync.folder_objects import FolderObjects

WHOLE = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "result.json")
APPENDED = ("events.jsonl", "attempts/1/log.txt", "tracking_buffer.jsonl")
Content = dict[str, bytes]


def content_of(folder: Path, names: tuple[str, ...]) -> Content:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


class Crash(Exception):
    """The process that calls the storage is killed."""


class RunFolders(RuleBasedStateMachine):
    """A node, a service and a storage."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = FolderObjects(self.root / "storage")
        self.objects = JobObjects(self.store, "job")
        self.service = self.root / "service"
        self.service.mkdir()
        write_atomic(self.service / "job.yaml", "name: j")
        self.numbers = itertools.count()
        self.attempt = 0
        self.zombies: list[FolderPusher] = []
        self.start_attempt()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def start_attempt(self) -> None:
        """Start the next attempt from what the service has, on a node with an empty disk."""
        self.attempt += 1
        publish_start(self.service, self.objects, self.attempt)
        self.node = self.root / f"node{self.attempt}"
        base = restore_start(self.node, self.objects, self.attempt)
        assert content_of(self.node, WHOLE) == content_of(self.service, WHOLE)
        self.pusher = FolderPusher(self.node, self.objects, self.attempt, base)
        self.puller = FolderPuller(self.service, self.objects, self.attempt)
        self.changes: Changes | None = None
        self.stored: Stored | None = None
        self.history = [content_of(self.node, WHOLE)]
        self.seen = 0

    @rule(name=st.sampled_from(WHOLE))
    def write(self, name: str) -> None:
        write_atomic(self.node / name, f"{name} {next(self.numbers)}")
        self.history.append(content_of(self.node, WHOLE))

    @rule(name=st.sampled_from(WHOLE))
    def remove(self, name: str) -> None:
        (self.node / name).unlink(missing_ok=True)
        self.history.append(content_of(self.node, WHOLE))

    @rule(name=st.sampled_from(APPENDED), count=st.integers(1, 9))
    def append(self, name: str, count: int) -> None:
        (self.node / name).parent.mkdir(parents=True, exist_ok=True)
        with (self.node / name).open("ab") as file:
            file.write(b"".join(b"line %d\n" % next(self.numbers) for _ in range(count)))

    @rule()
    def empty(self) -> None:
        """Empty the one journal that is emptied in place when all of its entries were sent."""
        if (self.node / APPENDED[2]).exists():
            with (self.node / APPENDED[2]).open("r+b") as file:
                file.truncate(0)

    @rule(fault=st.sampled_from(("none", "before", "after")), at=st.integers(0, 3))
    def push(self, fault: str, at: int) -> None:
        self.with_faults(fault, at, self.pusher.push)

    @precondition(lambda self: self.changes is None and self.stored is None)
    @rule()
    def find(self) -> None:
        """Open the changes as the first thread of a node does, which the second one stores later."""
        self.changes = self.pusher.find()

    @precondition(lambda self: self.changes is not None)
    @rule()
    def upload(self) -> None:
        assert self.changes is not None
        self.stored, self.changes = self.pusher.upload(self.changes), None

    @rule(fault=st.sampled_from(("none", "before", "after")), at=st.integers(0, 3))
    def commit(self, fault: str, at: int) -> None:
        if self.with_faults(fault, at, lambda: self.pusher.commit(self.stored)):
            self.stored = None

    @rule(fault=st.sampled_from(("none", "before", "after", "crash")), at=st.integers(0, 5))
    def pull(self, fault: str, at: int) -> None:
        try:
            self.with_faults(fault, at, self.puller.pull)
        except Crash:
            self.puller = FolderPuller(self.service, self.objects, self.attempt)
            self.puller.pull()

    @rule()
    def delete_unused(self) -> None:
        self.puller.delete_unused()

    @rule(number=st.integers(0, 9))
    def push_of_an_older_attempt(self, number: int) -> None:
        if self.zombies:
            self.zombies[number % len(self.zombies)].push()

    @rule()
    def lose_the_node(self) -> None:
        """The node dies with its disk; the service pulls what was stored, and starts the next attempt."""
        self.puller.pull()
        self.check()
        self.zombies.append(self.pusher)
        self.start_attempt()

    @rule()
    def push_and_pull_everything(self) -> None:
        self.changes = self.stored = None
        while not self.pusher.push():
            pass
        self.puller.pull()
        names = (*WHOLE, *APPENDED)
        assert content_of(self.service, names) == content_of(self.node, names) | self.logs_of_others()

    def logs_of_others(self) -> Content:
        """The log of the first attempt stays with the service, and does not follow to other nodes."""
        return content_of(self.service, APPENDED[1:2]) if self.attempt > 1 else {}

    @invariant()
    def check(self) -> None:
        """The files that are replaced whole are those of one moment, which is not before an earlier one; and the others
        are the start of what was appended."""
        found = content_of(self.service, WHOLE)
        moments = [at for at in range(self.seen, len(self.history)) if self.history[at] == found]
        assert moments, f"{found} was never the content after moment {self.seen} of {self.history}"
        self.seen = moments[0]
        whole_journal = (self.node / APPENDED[0]).read_bytes() if (self.node / APPENDED[0]).exists() else b""
        pulled = content_of(self.service, APPENDED).get(APPENDED[0], b"")
        assert whole_journal.startswith(pulled)

    def with_faults(self, fault: str, at: int, action: Any) -> bool:
        """Let one request of an action fail; return whether the action succeeded."""
        remaining = itertools.count()

        def fail() -> None:
            if next(remaining) == at:
                raise Crash if fault == "crash" else StorageUnavailable("a fault of the test")

        name = "before" if fault in ("before", "crash") else "after"
        if fault != "none":
            setattr(self.store, name, fail)
        try:
            action()
        except StorageError:
            return False
        finally:
            self.store.before = self.store.after = lambda: None
        return True


TestRunFolders = RunFolders.TestCase
TestRunFolders.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
