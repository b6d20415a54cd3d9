"""Weights in a file or a folder that the user names. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from backbones.weights_sources.base import WeightsSource, copy_file


@dataclass(frozen=True)
class LocalFile(WeightsSource):
    """A file, or the folder of an exported model. The user knows its license."""

    kind: ClassVar[str] = "local file"

    location: Path
    license: str | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        return self.location.name

    @property
    def origin(self) -> str:
        return str(self.location)

    def path(self) -> Path | None:
        return self.location if self.location.exists() else None

    def problem(self) -> str | None:
        if self.path():
            return None
        return f"weights {str(self.location)!r}: file not found; write 'none', 'default' or the path of a file"

    def download(self, folder: Path) -> Path:
        if problem := self.problem():
            raise ValueError(problem)
        return copy_file(self.location, folder / self.file_name)
