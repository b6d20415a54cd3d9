"""The paths of all files of a run folder, of an attempt's folder, and of an exported model's folder."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

RUNS_ROOT_VARIABLE = "PYRAMIDION_RUNS_ROOT"

CACHE_VARIABLE = "PYRAMIDION_CACHE_DIR"
"""The environment variable with the folder for what the data check stores between runs."""

TENANT_VARIABLE = "PYRAMIDION_TENANT"
"""The environment variable with the owner of the job; its models belong to this tenant."""

ATTEMPT_DIR_VARIABLE = "PYRAMIDION_ATTEMPT_DIR"
"""The environment variable with the attempt's folder; set if the service runs the attempt."""

RUN_DIR_VARIABLE = "PYRAMIDION_RUN_DIR"
"""The environment variable by which rank 0 passes the chosen folder to the other ranks."""

_ATTEMPTS, _CHECKPOINTS, _EVALUATIONS, _LOG = "attempts", "checkpoints", "eval", "log.txt"
JOB_YAML = "job.yaml"
"""Name of a job's document, which `init` and `data convert` give to documents that they write, too."""

UNFINISHED_SUFFIX = ".writing"
"""Suffix of a file that is being written, and gets another name once it is complete; so are hidden files."""


def is_unfinished(path: PurePath) -> bool:
    """Return whether a path relative to a run folder is a lock, or is still being written."""
    return any(part.startswith(".") for part in path.parts) or path.suffix == UNFINISHED_SUFFIX


def is_appended(path: PurePath) -> bool:
    """Return whether a file of a run folder grows by appended lines; all others are replaced whole."""
    return path.suffix == ".jsonl" or path.name == _LOG


def runs_root() -> Path:
    """Return the folder of new runs and of the local MLflow store: PYRAMIDION_RUNS_ROOT, by default `runs`."""
    return Path(os.environ.get(RUNS_ROOT_VARIABLE, "runs"))


@dataclass(frozen=True)
class RunDir:
    """Paths of one run.

    Attributes:
        path: the run folder.
        output: the folder for results: the run folder after `fit`, a folder below `eval/` for other commands.
    """

    path: Path
    output: Path

    @classmethod
    def of(cls, path: Path) -> "RunDir":
        return cls(path, path)

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "RunDir | None":
        """Return the run that a checkpoint's path belongs to, or None if it is not in a run's checkpoint folder."""
        folder = checkpoint.parent
        return cls.of(folder.parent) if folder.name == _CHECKPOINTS else None

    def for_evaluation(self, name: str) -> "RunDir":
        """Return the same run with `eval/<name>` as the folder for results."""
        return RunDir(self.path, self.evaluations / name)

    @property
    def evaluations(self) -> Path:
        return self.path / _EVALUATIONS

    @property
    def job_yaml(self) -> Path:
        """The document as it was submitted."""
        return self.path / JOB_YAML

    @property
    def config_yaml(self) -> Path:
        """The document with every default."""
        return self.path / "config.yaml"

    @property
    def inputs_json(self) -> Path:
        """See `RunInputs`."""
        return self.path / "inputs.json"

    @property
    def measured(self) -> Path:
        """See `RunMeasurement`; exists if the document leaves values to a measurement."""
        return self.path / "measured.json"

    @property
    def budget(self) -> Path:
        """See `BudgetUse`."""
        return self.path / "budget.json"

    @property
    def data_report(self) -> Path:
        """See `DataReportFile`."""
        return self.output / "data_report.json"

    @property
    def registration(self) -> Path:
        """See `Registration`."""
        return self.path / "registration.json"

    @property
    def tracking_state(self) -> Path:
        """See `TrackingState`."""
        return self.path / "tracking.json"

    @property
    def tracking_journal(self) -> Path:
        """One `JournalEntry` per line, each waiting to be sent to MLflow; removed once all have been sent."""
        return self.path / "tracking_buffer.jsonl"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / _CHECKPOINTS / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / _CHECKPOINTS / "last.ckpt"

    @property
    def has_checkpoint(self) -> bool:
        """True once the run has trained; until then its document may still be corrected."""
        return self.last_checkpoint.exists() or self.best_checkpoint.exists()

    @property
    def is_new(self) -> bool:
        """True if the run has not written its documents yet.

        The lock, files of the attempt's shim, the submitted document and hidden files of a killed process may exist.
        """
        allowed = (_ATTEMPTS, JOB_YAML)
        return all(entry.name.startswith(".") or entry.name in allowed for entry in self.path.iterdir())

    @property
    def model(self) -> Path:
        """The exported model, see `ExportedModelDir`."""
        return self.path / "model"

    @property
    def init_from(self) -> Path:
        """A copy of the registered model that the run starts from, kept only while the run needs it."""
        return self.path / "init_from"

    @property
    def non_finite(self) -> Path:
        """Batches whose loss was not finite, see `pipelines.training.non_finite`."""
        return self.path / "non_finite"

    @property
    def events(self) -> Path:
        """One `Event` per line."""
        return self.output / "events.jsonl"

    @property
    def result(self) -> Path:
        """See `pipelines.spec.result.RunResult`."""
        return self.output / "result.json"

    @property
    def predictions(self) -> Path:
        return self.output / "predictions"

    @property
    def predictions_json(self) -> Path:
        """Predictions for image files that `predict` was called with: a list of `PredictedImage`."""
        return self.output / "predictions.json"

    @property
    def image_list(self) -> Path:
        """The images of a batch prediction in their order: a list of `BatchImage`."""
        return self.path / "image_list.json"

    @property
    def answers(self) -> Path:
        """The journal of a batch prediction: one `ImageAnswer` per line, in the order of the images."""
        return self.path / "answers.jsonl"

    @property
    def images_csv(self) -> Path:
        """One row for each image of a batch prediction: its size, or the reason why it was not predicted."""
        return self.path / "images.csv"

    @property
    def pictures(self) -> Path:
        """Images with their predictions drawn on them."""
        return self.output / "pictures"

    @property
    def ground_truth(self) -> Path:
        return self.output / "ground_truth"

    @property
    def worst_folder(self) -> Path:
        """The worst images of tasks that have such a list, and labels to review."""
        return self.output / "worst"

    def worst(self, task: str) -> Path:
        """See `pipelines.tasks.worst_images.WorstImages`."""
        return self.worst_folder / f"{task}.json"

    def suspicions(self, task: str) -> Path:
        """Labels to review, as a COCO instances file."""
        return self.worst_folder / f"{task}.coco.json"

    @property
    def plots(self) -> Path:
        return self.output / "plots"

    @property
    def attempts(self) -> Path:
        """The folders of all attempts."""
        return self.path / _ATTEMPTS

    def attempt(self, number: int) -> Path:
        """Return the folder of an attempt, see `AttemptDir`."""
        return self.attempts / str(number)

    def next_attempt(self) -> int:
        """Return the number of the next attempt; the first is 1."""
        numbers = [int(p.name) for p in self.attempts.glob("*") if p.name.isdigit()]
        return max(numbers, default=0) + 1


@dataclass(frozen=True)
class AttemptDir:
    """Paths of one attempt, `<run folder>/attempts/<n>`."""

    path: Path

    @property
    def run_json(self) -> Path:
        """See `ShimProcess` and `FitProcess`."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """Everything that the attempt prints."""
        return self.path / _LOG

    @property
    def exit_json(self) -> Path:
        """See `AttemptExit`."""
        return self.path / "exit.json"

    @property
    def failure_json(self) -> Path:
        """See `AttemptFailure`."""
        return self.path / "failure.json"


@dataclass(frozen=True)
class ExportedModelDir:
    """Paths of an exported model: `model/` of a run folder, or a copy of it elsewhere."""

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def description(self) -> Path:
        """See `pipelines.inference.export`; written last, so a folder that contains it is complete."""
        return self.path / "model.json"
