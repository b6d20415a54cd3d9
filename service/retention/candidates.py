"""The items that the rules do not keep, which `pyramidion gc` deletes."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from pipelines.run_folder.layout import AttemptDir, RunDir
from service.datasets.folder import version_folder
from service.retention.protection import Protection
from service.retention.rules import Item, Rule, exceeding
from service.settings import Settings
from service.states import JobStatus
from service.store.retention import EndedJob, RetentionStore


class DeletedKind(StrEnum):
    """The kind of an item that is deleted."""

    JOB = "job"
    CHECKPOINT = "checkpoint"
    LOG = "log"
    EVENTS = "events"
    DATASET = "dataset"


@dataclass(frozen=True)
class Deletion:
    """An item to delete, with the reason.

    Attributes:
        job_id: the job that it belongs to, or the id of the data set.
        name: of the job or the data set.
        reason: the rule that does not keep it.
        paths: files, or the folder of the job.
        num_bytes: their size.
        num_rows: number of events.
    """

    kind: DeletedKind
    job_id: str
    name: str
    reason: str
    paths: tuple[Path, ...] = ()
    num_bytes: int = 0
    num_rows: int = 0

    @property
    def subject(self) -> str:
        """A name of the item for messages."""
        if self.kind is DeletedKind.DATASET:
            return f"data set {self.name}"
        return f"job {self.job_id}" if self.kind is DeletedKind.JOB else f"{self.kind} of job {self.job_id}"


def find_deletions(settings: Settings, store: RetentionStore, protection: Protection, now: float) -> Iterator[Deletion]:
    """Yield what the rules do not keep; what belongs to a deleted job is not listed again."""
    ended = store.ended()
    by_kind = (_jobs, _checkpoints, _last_checkpoints, _logs)
    deleted: set[str] = set()
    known: set[Path] = set()
    for find in by_kind:
        remaining = [job for job in ended if job.id not in deleted]
        for deletion in find(settings, remaining, protection, now):
            if deletion.kind is DeletedKind.JOB:
                deleted.add(deletion.job_id)
            elif known.issuperset(deletion.paths):
                continue
            known.update(deletion.paths)
            yield deletion
    yield from _events(settings, [job for job in ended if job.id not in deleted], store, now)
    yield from _datasets(settings, store, now)


def _jobs(settings: Settings, ended: list[EndedJob], protection: Protection, now: float) -> Iterator[Deletion]:
    rule = Rule.of(settings, "keep_jobs")
    if not rule.is_set:
        return
    free = (job for job in ended if not protection.is_needed(job))
    items = [Item(job, job.finished_at, partial(folder_bytes, settings.run_dir(job.id))) for job in free]
    for job, reason in exceeding(items, rule, now):
        folder = settings.run_dir(job.id)
        yield Deletion(DeletedKind.JOB, job.id, job.name, reason, (folder,), folder_bytes(folder))


def _checkpoints(settings: Settings, ended: list[EndedJob], protection: Protection, now: float) -> Iterator[Deletion]:
    rule = Rule.of(settings, "keep_checkpoints")
    if rule.is_set:
        free = [job for job in ended if not protection.is_needed(job)]
        yield from _files(settings, free, rule, now, DeletedKind.CHECKPOINT, checkpoints_of)


def _last_checkpoints(
    settings: Settings, ended: list[EndedJob], protection: Protection, now: float
) -> Iterator[Deletion]:
    """Yield the checkpoints from which nothing resumes any more, but never the only one of a job."""
    rule = Rule("keep_last_checkpoint", max_age_s=settings.keep_last_checkpoint_s)
    done = [job for job in ended if job.status is JobStatus.SUCCEEDED and not protection.is_named(job)]
    yield from _files(settings, done, rule, now, DeletedKind.CHECKPOINT, superseded_checkpoints_of)


def _logs(settings: Settings, ended: list[EndedJob], protection: Protection, now: float) -> Iterator[Deletion]:
    rule = Rule.of(settings, "keep_logs")
    if rule.is_set:
        yield from _files(settings, ended, rule, now, DeletedKind.LOG, logs_of)


def _files(
    settings: Settings,
    ended: list[EndedJob],
    rule: Rule,
    now: float,
    kind: DeletedKind,
    files_of: Callable[[RunDir], tuple[Path, ...]],
) -> Iterator[Deletion]:
    """Yield the files of a kind that a rule does not keep; jobs without such files do not count."""

    def items() -> Iterator[Item[tuple[EndedJob, tuple[Path, ...]]]]:
        for job in ended:
            if files := files_of(RunDir.of(settings.run_dir(job.id))):
                yield Item((job, files), job.finished_at, partial(_total_bytes, files))

    for (job, files), reason in exceeding(items(), rule, now):
        yield Deletion(kind, job.id, job.name, reason, files, _total_bytes(files))


def _events(settings: Settings, ended: list[EndedJob], store: RetentionStore, now: float) -> Iterator[Deletion]:
    rule = Rule.of(settings, "keep_events")
    if not rule.is_set:
        return
    counts = store.count_events([job.id for job in ended])
    items = [Item(job, job.finished_at, lambda: 0, count=counts[job.id]) for job in ended if counts.get(job.id)]
    for job, reason in exceeding(items, rule, now):
        yield Deletion(DeletedKind.EVENTS, job.id, job.name, reason, num_rows=counts[job.id])


def _datasets(settings: Settings, store: RetentionStore, now: float) -> Iterator[Deletion]:
    rule = Rule.of(settings, "keep_datasets")
    if not rule.is_set:
        return
    items = [Item(version, version.time, partial(int, version.num_bytes)) for version in store.unused_datasets()]
    for version, reason in exceeding(items, rule, now):
        folder = version_folder(settings.datasets_dir, version.id).path
        reference = f"{version.name}@{version.version}"
        yield Deletion(DeletedKind.DATASET, version.id, reference, reason, (folder,), version.num_bytes)


def checkpoints_of(run_dir: RunDir) -> tuple[Path, ...]:
    """Return all files in the folder of the checkpoints, with those that a killed trainer was writing."""
    return tuple(path for path in _entries(run_dir.best_checkpoint.parent) if path.is_file())


def superseded_checkpoints_of(run_dir: RunDir) -> tuple[Path, ...]:
    """Return the checkpoints beside the best one; nothing if there is no best one."""
    others = tuple(path for path in checkpoints_of(run_dir) if path != run_dir.best_checkpoint)
    return others if run_dir.best_checkpoint.is_file() else ()


def logs_of(run_dir: RunDir) -> tuple[Path, ...]:
    """Return the logs of all attempts."""
    logs = (AttemptDir(path).log for path in _entries(run_dir.attempt(1).parent))
    return tuple(path for path in logs if path.is_file())


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; links are not followed."""
    return sum(_file_bytes(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # there is none, or it was deleted meanwhile
        return []


def _total_bytes(files: tuple[Path, ...]) -> int:
    return sum(map(_file_bytes, files))


def _file_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # deleted meanwhile
        return 0
