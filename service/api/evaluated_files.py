"""The images of a task of a job with labels and predictions, and their files below the data roots. Torch-free."""

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.base.errors import ConfigError
from pipelines.base.paths import below
from pipelines.base.printable import shortened
from pipelines.base.records import Split
from pipelines.data.dataset.roots import find_root
from pipelines.formats.source_split import SourceSplit
from pipelines.run_folder.layout import RunDir
from pipelines.spec.data import DataSpec
from pipelines.spec.load import read_yaml
from pipelines.tasks.base import TaskKind
from pipelines.tasks.image_marks import ImageName
from pipelines.tasks.kinds import KINDS
from service.api.asked_task import AskedTask
from service.api.deps import JobsDep, PrincipalDep, SettingsDep
from service.api.shared_reads import SharedReads
from service.rest.problems import Problem

if TYPE_CHECKING:
    from pipelines.data.source_images import NewImageReader
    from pipelines.tasks.evaluated_images import EvaluatedImages, MarkedImages
    from pipelines.tasks.stored_embeddings import StoredEmbeddings

KEPT_TASKS, KEPT_THRESHOLDS, KEPT_DOCUMENTS = 4, 8, 8
"""Numbers of results that are kept in memory; a task with 500,000 detections has about 30 MB."""


@dataclass(frozen=True)
class EvaluatedTask:
    """A task of a job that was scored.

    Attributes:
        run_dir: of the job.
        task: its name.
        split: the split that was scored last, which the files are about.
        result: its entry in result.json.
    """

    run_dir: RunDir
    task: str
    split: Split
    result: Mapping[str, Any]

    @property
    def kind(self) -> TaskKind[Any]:
        kind: TaskKind[Any] = KINDS[self.result["kind"]]
        return kind

    @property
    def predictions(self) -> Path:
        return self.run_dir.predictions / f"{self.task}{self.kind.predictions.suffix}"

    @property
    def ground_truth(self) -> Path | None:
        file_format = self.kind.ground_truth
        return None if file_format is None else self.run_dir.ground_truth / f"{self.task}{file_format.suffix}"

    def state(self) -> Hashable:
        """Return a value that changes if the files do; raises FileNotFoundError without predictions."""
        stats = [path.stat() for path in (self.run_dir.result, self.predictions)]
        return self.run_dir.path, self.task, *((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


class EvaluatedFiles:
    """Reads the files of tasks; the results of the last requests are kept."""

    def __init__(self) -> None:
        self._tasks = SharedReads(KEPT_TASKS)
        self._marked = SharedReads(KEPT_THRESHOLDS)
        self._documents = SharedReads(KEPT_DOCUMENTS)

    def images(self, asked: EvaluatedTask) -> "EvaluatedImages":
        """Return the images of a task; raises Problem 404 if it has none, or a file is missing or damaged."""
        found = self._read(asked)
        if found.images is None:
            raise _no_images(asked, f"{asked.result['kind']} tasks have no labels and scores for each image")
        return found.images

    def embeddings(self, asked: EvaluatedTask) -> "StoredEmbeddings":
        """Return the embeddings of a task; raises Problem 404 as `images`."""
        found = self._read(asked)
        if found.embeddings is None:
            detail = f"the task {asked.task!r} has no embeddings: it is a {asked.result['kind']} task"
            raise Problem(404, "No embeddings", detail)
        return found.embeddings

    def names(self, asked: EvaluatedTask) -> Sequence[ImageName]:
        """Return the images of a task of any kind; raises Problem 404 as `images`."""
        found = self._read(asked)
        return self.images(asked).names if found.embeddings is None else found.embeddings.names

    def _read(self, asked: EvaluatedTask) -> "_TaskFiles":
        return self._tasks.get(_state(asked), partial(_read, asked))

    def marked(self, asked: EvaluatedTask, threshold: float | None) -> "MarkedImages":
        """Return the images, marked at a threshold; raises Problem as `images`, or 422 if the task has no threshold."""
        images = self.images(asked)
        try:
            return self._marked.get((_state(asked), threshold), partial(images.marked, threshold))
        except ValueError as error:
            raise Problem(422, "No threshold", f"query parameter 'threshold': {error}") from error

    def source(self, run_dir: RunDir, roots: tuple[Path, ...]) -> "ImageSources":
        """Return where a job has read its images; raises Problem 404 if it is unknown."""
        return self._documents.get((run_dir.path, roots), partial(ImageSources.read, run_dir, roots))


def _state(asked: EvaluatedTask) -> Hashable:
    try:
        return asked.state()
    except FileNotFoundError:
        raise _no_images(asked, "its files with predictions are missing") from None


@dataclass(frozen=True)
class _TaskFiles:
    """The content of the files of a task; a kind has images or embeddings, or neither."""

    images: "EvaluatedImages | None"
    embeddings: "StoredEmbeddings | None"


def evaluated_task(
    job_id: str, task: str, jobs: JobsDep, principal: PrincipalDep, settings: SettingsDep
) -> EvaluatedTask:
    """Return the task with the split that was scored last; raises Problem 404 without results of it."""
    scored = AskedTask(job_id, task, None, jobs, principal, settings).scored()
    return EvaluatedTask(RunDir.of(settings.run_dir(job_id)), task, scored["split"], scored["result"])


def _read(asked: EvaluatedTask) -> _TaskFiles:
    from pipelines.tasks.resampling import DAMAGES  # numpy, which the process imports only when it is needed

    worst = asked.run_dir.worst(asked.task)
    try:
        images = asked.kind.evaluated_images(asked.result, asked.predictions, asked.ground_truth, worst)
        return _TaskFiles(images, asked.kind.stored_embeddings(asked.predictions))
    except FileNotFoundError as error:
        raise _no_images(asked, f"the file {Path(error.filename).name} is missing") from None
    except (ValueError, *DAMAGES) as error:
        raise _no_images(asked, f"its files cannot be used: {shortened(str(error))}") from error


def _no_images(asked: EvaluatedTask, reason: str) -> Problem:
    return Problem(404, "No images", f"the task {asked.task!r} has no images to show: {reason}")


@dataclass(frozen=True)
class ImageSources:
    """The sources of a job's images.

    Attributes:
        data: section of the job's complete document.
        root: folder of the data.
    """

    data: DataSpec
    root: Path

    @classmethod
    def read(cls, run_dir: RunDir, roots: tuple[Path, ...]) -> "ImageSources":
        """Read the document in a run folder, and find its data below the data roots; raises Problem 404."""
        try:
            document = read_yaml(run_dir.config_yaml.read_text("utf-8"), run_dir.config_yaml.name)
            data = DataSpec.model_validate(document["data"])
            return cls(data, find_root(data.root, roots))
        except (ConfigError, OSError, ValueError, LookupError, TypeError) as error:
            detail = f"the data of the job cannot be found: {shortened(str(error))}"
            raise Problem(404, "No picture", detail) from error

    def locate(self, image: ImageName, split: Split) -> tuple[Path, os.stat_result]:
        """Return the file of an image and its state; raises Problem 404 if it is missing, or may be one of several."""
        source = self.data.sources.get(image.source)
        if source is None:
            raise Problem(404, "No picture", f"the document of the job has no source {image.source!r}")
        # A split file may assign images of each split on disk to each other one.
        stored = (split,) if source.split_file is None else tuple(source.splits)
        found: dict[Path, os.stat_result] = {}
        for name in stored:
            folder = SourceSplit(self.root, image.source, source.images, source.splits, split, name)
            try:
                path = below(folder.path(source.images), image.file_name)
                if path.is_file():
                    found[path] = path.stat()
            except FileNotFoundError:  # it was deleted in this moment
                continue
            except OSError as error:  # not only a missing permission: a name may be too long
                detail = f"the file {shortened(image.file_name)} of {image.source!r} cannot be read: {error.strerror}"
                raise Problem(404, "No picture", detail) from error
            except ValueError as error:
                raise Problem(404, "No picture", shortened(str(error))) from error
        if len(found) == 1:
            return found.popitem()
        reason = "exists in several splits on disk" if found else "is missing; it was deleted or moved after the run"
        raise Problem(404, "No picture", f"the file {shortened(image.file_name)} of {image.source!r} {reason}")

    def reader(self, image: ImageName) -> "NewImageReader":
        """Return the reader that reads the image as the run did."""
        from pipelines.data.source_images import NewImageReader

        return NewImageReader(self.data.model_copy(update={"sources": {image.source: self.data.sources[image.source]}}))
