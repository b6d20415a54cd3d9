"""Weights at a URL, in torch's cache of downloads. Torch-free."""

import http.client
import os
import re
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlparse

from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.reachability import unreachable_reason

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")
"""The first digits of the file's SHA-256, which names of published files contain."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class UrlFile(WeightsSource):
    """A file that torch's cache has, or that is downloaded to it."""

    kind: ClassVar[str] = "download"

    url: str
    license: str | None

    @property
    def sha256(self) -> str | None:  # type: ignore[override]
        found = _DIGEST.search(self.file_name)
        return found[1] if found else None

    @property
    def file_name(self) -> str:
        return Path(urlparse(self.url).path).name

    @property
    def origin(self) -> str:
        return self.url

    @property
    def cache(self) -> Path:
        """The folder that `torch.hub` uses."""
        parent = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = os.environ.get("TORCH_HOME", str(Path(parent, "torch")))
        return Path(home).expanduser() / "hub" / "checkpoints"

    def path(self) -> Path | None:
        path = self.cache / self.file_name
        return path if path.is_file() else None

    def problem(self) -> str | None:
        if self.path() or (reason := unreachable_reason(self.url)) is None:
            return None
        return (
            f"{self.file_name} is not in {self.cache}, and {urlparse(self.url).netloc} cannot be reached ({reason}); "
            f"download {self.url} where there is a network, put the file below a weights root, and write its name "
            "instead"
        )

    def download(self, folder: Path) -> Path:
        if problem := self.problem():
            raise ValueError(problem)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / self.file_name
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT_S) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
            self.verify(partial)
            partial.replace(target)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ValueError(
                f"{self.url} was not downloaded completely ({error}); start again, or download it elsewhere, put the "
                "file below a weights root, and write its name instead"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return target
