"""Facts about image files, stored by path, size and time of change. Torch-free."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pipelines.data.dataset.cache.files import SETTLED_S, code_version, read_arrays, short_digest, write_arrays
from pipelines.data.images import Exif, ImageFacts

_FactsByImage = TypeAdapter(dict[str, tuple[int, int, ImageFacts]])
_MEMBER = "facts"
_CODE = ("pipelines/data/images.py", "pipelines/data/decoding")


@dataclass
class FactsCache:
    """The stored facts of one data root.

    A file whose content changes while its size and its time of change stay the same is not noticed.

    Attributes:
        entries: by `exif` and path: size in bytes, time of change in ns, facts.
        has_new: whether `save` has something to write.
    """

    name: str
    key: str
    entries: dict[str, tuple[int, int, ImageFacts]] = field(default_factory=dict)
    has_new: bool = False

    @classmethod
    def of(cls, root: Path) -> "FactsCache":
        """Return the stored facts of a root; without any if nothing (or nothing intact) is stored."""
        cache = cls(f"facts-{short_digest(str(root.resolve()))}.npz", code_version(*_CODE))
        if (stored := read_arrays(cache.name, cache.key)) and _MEMBER in stored:
            try:
                cache.entries = _FactsByImage.validate_json(stored[_MEMBER].tobytes())
            except ValidationError:
                cache.entries = {}
        return cache

    def find(self, path: Path, exif: Exif) -> ImageFacts | None:
        """Return the facts of a file that has not changed since they were stored."""
        entry = self.entries.get(f"{exif} {path}")
        if entry is None or (stat := _stat(path)) is None or entry[:2] != (stat.st_size, stat.st_mtime_ns):
            return None
        return entry[2]

    def add(self, path: Path, exif: Exif, facts: ImageFacts, stat: os.stat_result) -> None:
        """Store facts about a file; `stat` was read before the file."""
        is_utf8 = str(path).isprintable() or str(path).encode("utf-8", "ignore").decode() == str(path)
        if is_utf8 and abs(time.time() - stat.st_mtime) > SETTLED_S:
            self.entries[f"{exif} {path}"] = (stat.st_size, stat.st_mtime_ns, facts)
            self.has_new = True

    def save(self) -> None:
        """Write the facts if there are new ones; those of files that are gone are dropped."""
        if not self.has_new:
            return
        self.entries = {key: entry for key, entry in self.entries.items() if Path(key.partition(" ")[2]).exists()}
        content = _FactsByImage.dump_json(self.entries)
        write_arrays(self.name, self.key, {_MEMBER: np.frombuffer(content, np.uint8)})


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
