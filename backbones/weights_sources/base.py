"""The contract of weights sources: where a file of pretrained weights is, and how this machine gets it. Torch-free."""

import hashlib
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class WeightsSource(ABC):
    """One file of pretrained weights, or one exported model, in one kind of place.

    Attributes:
        kind: the kind of place, as tables show it.
        license: license of the weights; None: not recorded.
        sha256: the SHA-256 of the file, or its first digits; None: not recorded.
        cache: folder to which `provide` downloads; None: this kind of source is never downloaded on the way.
    """

    kind: ClassVar[str]
    license: str | None
    sha256: str | None

    @property
    def cache(self) -> Path | None:
        return None

    @property
    @abstractmethod
    def file_name(self) -> str:
        """Name that the file gets where it is downloaded."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """Text that says where the file comes from, such as a package with its version."""

    @property
    def description(self) -> str:
        """The origin with the license, if it is recorded."""
        return f"{self.origin} ({self.license})" if self.license else self.origin

    @abstractmethod
    def path(self) -> Path | None:
        """Return the place of the file on this machine, without a network; None if it is missing."""

    @abstractmethod
    def problem(self) -> str | None:
        """Return the reason why a run on this machine cannot use the file, with a remedy; None if it can.

        A missing file counts as available if its server answers within seconds.
        """

    @abstractmethod
    def download(self, folder: Path) -> Path:
        """Return the file, which is downloaded to `folder`; its checksum is verified.

        Raises:
            ValueError: the file is not available; the message says how to get it.
        """

    def provide(self) -> Path:
        """Return the file for a run; it is downloaded to `cache` if it is missing.

        Raises:
            ValueError: the file is not available, or is not the published one.
        """
        path = self.path()
        if path is not None:
            self.verify(path)
            return path
        if problem := self.problem():
            raise ValueError(problem)
        assert self.cache is not None
        return self.download(self.cache)

    def fetch(self, folder: Path) -> Path:
        """Return the file in `folder`, to which it is copied or downloaded if it is missing there.

        Raises:
            ValueError: the file is not available, is not the published one, or `folder` has another file of this name.
        """
        target, path = folder / self.file_name, self.path()
        if target.exists():
            self.verify(target)
            return target
        if path is None:
            return self.download(folder)
        self.verify(path)
        return copy_file(path, target)

    def verify(self, path: Path) -> None:
        """Raise a ValueError if a file does not have the recorded checksum."""
        if self.sha256 is not None and not (digest := sha256_of(path)).startswith(self.sha256):
            raise ValueError(
                f"{path} is not the published file: its SHA-256 starts with {digest[:16]} instead of "
                f"{self.sha256[:16]}; delete it, and get it again ({self.origin})"
            )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> Path:
    """Copy a file, or the folder of an exported model, so that the target is complete if it exists."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    if source.is_dir():
        shutil.copytree(source, partial, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, partial)
    partial.replace(target)
    return target
