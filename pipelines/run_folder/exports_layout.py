"""The paths of all files of a model's exports to other runtimes."""

from dataclasses import dataclass
from pathlib import Path

EXPORTS = "exports"
"""Name of the folder of all exports of a model."""
UNFINISHED = ".new-"
"""Start of the names of folders that are not complete, which the next export removes."""
REPLACED = ".old-"
"""Start of the name of an export while another one gets its name, where names cannot be exchanged."""


@dataclass(frozen=True)
class ExportsDir:
    """Paths of a model's exports to other runtimes: `exports/` of a run folder, or of an exported model's folder."""

    path: Path

    @classmethod
    def of(cls, folder: Path) -> "ExportsDir":
        """Return the exports in a run folder or in an exported model's folder."""
        return cls(folder / EXPORTS)

    @property
    def report(self) -> Path:
        """See `ExportReport`."""
        return self.path / "report.json"

    @property
    def benchmark(self) -> Path:
        """See `ModelBenchmark`."""
        return self.path / "benchmark.json"

    def variant(self, name: str) -> "VariantDir":
        """Return the folder of a variant, such as `openvino-int8`."""
        return VariantDir(self.path / name)

    def variants(self) -> list["VariantDir"]:
        """Return the folders of all complete variants, by name."""
        return [VariantDir(path.parent) for path in sorted(self.path.glob("[a-z]*/model.json"))]


@dataclass(frozen=True)
class VariantDir:
    """Paths of one export: a graph of a runtime beside the files that describe it."""

    path: Path

    @property
    def description(self) -> Path:
        """See `ExportedVariant`."""
        return self.path / "model.json"

    @property
    def example(self) -> Path:
        """A program that prints the answers for one image."""
        return self.path / "example.py"

    @property
    def inference(self) -> Path:
        """Functions that prepare images for the graph and make the answers, for programs of others."""
        return self.path / "inference.py"

    @property
    def card(self) -> Path:
        """What the model is, for people."""
        return self.path / "README.md"
