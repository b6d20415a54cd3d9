"""Weights in a repository of the Hugging Face Hub, and in its cache on this machine. Torch-free.

The client of the Hub is imported when it is used: it takes as long as all other imports of a command.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlparse

from backbones.weights_sources.base import WeightsSource, copy_file, sha256_of
from backbones.weights_sources.reachability import unreachable_reason

_FILES = ("model.safetensors", "pytorch_model.bin")
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class HubFile(WeightsSource):
    """A file of a repository.

    Attributes:
        repository: its name, with `@` and a revision if it is not the newest one.
        file: the file in the repository; by default the usual names of weights are tried.
    """

    kind: ClassVar[str] = "Hugging Face Hub"

    repository: str
    license: str | None
    file: str | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        name = self._id.rpartition("/")[2]
        return f"{name}{Path(self._files[0]).suffix}"

    @property
    def origin(self) -> str:
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repository}"

    @property
    def _id(self) -> str:
        return self.repository.partition("@")[0]

    @property
    def _revision(self) -> str | None:
        return self.repository.partition("@")[2] or None

    @property
    def _files(self) -> tuple[str, ...]:
        return (self.file,) if self.file else _FILES

    @property
    def url(self) -> str:
        """Address of the file, or of the first of the usual names."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self._id, self._files[0], revision=self._revision)

    def path(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = (try_to_load_from_cache(self._id, file, revision=self._revision) for file in self._files)
        return next((Path(path) for path in found if isinstance(path, str)), None)

    def problem(self) -> str | None:
        if self.path():
            return None
        from huggingface_hub import constants

        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else unreachable_reason(self.url)
        if reason is None:
            return None
        host = urlparse(self.url).netloc
        return f"{self.origin} is not cached, and {host} cannot be reached ({reason}); copy the file from elsewhere"

    def provide(self) -> Path:
        if path := self.path():
            return path
        if problem := self.problem():
            raise ValueError(problem)
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return Path(hf_hub_download(self._id, self._files[0], revision=self._revision))
        except (OSError, HfHubHTTPError) as error:
            raise ValueError(f"{self.url} was not downloaded completely ({error}); start again") from error

    def download(self, folder: Path) -> Path:
        return copy_file(self.provide(), folder / self.file_name)

    def verify(self, path: Path) -> None:
        """Raise a ValueError if a file differs from the cached one, which the cache names by its SHA-256."""
        super().verify(path)
        cached = self.path()
        digest = cached.resolve().name if cached else ""
        if len(digest) == _SHA256_DIGITS and sha256_of(path) != digest:
            raise ValueError(f"{path} differs from {self.url}; delete it, and get it again")
