"""The run folder: where each file lies."""

import os
from dataclasses import dataclass
from pathlib import Path

RUNS_ROOT_VARIABLE = "PYRAMIDION_RUNS_ROOT"

ATTEMPT_DIR_VARIABLE = "PYRAMIDION_ATTEMPT_DIR"
"""Names the attempt's folder where the service runs the attempt."""


def runs_root() -> Path:
    """Return where new runs and the local MLflow store lie: as the environment says, else `runs`."""
    return Path(os.environ.get(RUNS_ROOT_VARIABLE, "runs"))


@dataclass(frozen=True)
class RunDir:
    """Paths of one run. `output` is where results go: the folder itself after `fit`, one below `eval/` otherwise."""

    path: Path
    output: Path

    @classmethod
    def of(cls, path: Path) -> "RunDir":
        return cls(path, path)

    def for_evaluation(self, name: str) -> "RunDir":
        """Return the same run with results going to `eval/<name>`."""
        return RunDir(self.path, self.path / "eval" / name)

    @property
    def job_yaml(self) -> Path:
        return self.path / "job.yaml"

    @property
    def config_yaml(self) -> Path:
        return self.path / "config.yaml"

    @property
    def inputs_json(self) -> Path:
        return self.path / "inputs.json"

    @property
    def data_report(self) -> Path:
        return self.output / "data_report.json"

    @property
    def registration(self) -> Path:
        return self.path / "registration.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def has_checkpoint(self) -> bool:
        """Whether anything was trained: until then the document may still be mended."""
        return self.last_checkpoint.exists() or self.best_checkpoint.exists()

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def init_from(self) -> Path:
        """Where a registered model that the run begins from lies, as long as the run needs it."""
        return self.path / "init_from"

    @property
    def non_finite(self) -> Path:
        return self.path / "non_finite"

    @property
    def events(self) -> Path:
        return self.output / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.output / "result.json"

    @property
    def predictions(self) -> Path:
        return self.output / "predictions"

    @property
    def ground_truth(self) -> Path:
        return self.output / "ground_truth"

    @property
    def plots(self) -> Path:
        return self.output / "plots"

    def attempt(self, number: int) -> Path:
        return self.path / "attempts" / str(number)

    def next_attempt(self) -> int:
        """Return the number of the attempt that would come next, from 1."""
        taken = [int(p.name) for p in (self.path / "attempts").glob("*") if p.name.isdigit()]
        return max(taken, default=0) + 1
