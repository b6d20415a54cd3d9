"""The paths of the files of an explanation."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExplanationDir:
    """Paths of one explanation: a folder `eval/explain-<time>` of a run folder, or any other one."""

    path: Path

    @property
    def picture(self) -> Path:
        """The map over the image."""
        return self.path / "explanation.png"

    @property
    def values(self) -> Path:
        """The map (h, w) float32, as an array of numpy."""
        return self.path / "explanation.npy"

    @property
    def facts(self) -> Path:
        """See `pipelines.spec.explanation.ExplanationFacts`; written last."""
        return self.path / "explanation.json"
