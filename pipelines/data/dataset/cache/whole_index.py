"""The index and the report of a large data set without errors, stored until a file of the data changes. Torch-free."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from pipelines.base.links import link_policy, walk
from pipelines.base.packed_records import Arrays, PackedRecords
from pipelines.base.records import SPLITS, Category, DatasetIndex
from pipelines.data.dataset.cache.files import SETTLED_S, code_version, read_arrays, short_digest, write_arrays
from pipelines.data.dataset.checks.report import DataReport
from pipelines.spec.job import JobSpec

MIN_IMAGES = 5_000
"""Smaller sets are read again in about a second."""

MAX_FILES = 2_000_000
"""Folders with more files are not compared, because that would take longer than the check."""

_IRRELEVANT = {"root", "augment", "num_workers", "cache", "image_size", "mix", "temperature"}
"""Fields of `data` that neither the index nor the report depends on."""

_CODE = ("base", "data", "formats", "spec", "tasks")
_REPORT, _HEADER, _FILES = "report", "header", "files"
_ReportFile = TypeAdapter(DataReport)


class _Header(BaseModel):
    categories: dict[str, list[Category]]
    records: dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class IndexCache:
    """The stored index of a job; its place depends on the data folder, the document, and the code that reads it."""

    root: Path
    name: str
    key: str

    @classmethod
    def of(cls, job: JobSpec, root: Path) -> "IndexCache":
        """Return the place of a job's index."""
        document = job.model_dump(mode="json", include={"data": True, "model": {"tasks"}}, warnings=False)
        document["data"] = {name: value for name, value in document["data"].items() if name not in _IRRELEVANT}
        key = json.dumps([str(root.resolve()), str(root), link_policy() == "follow", document], sort_keys=True)
        version = code_version(*(f"pipelines/{package}" for package in _CODE), "backbones/spec")
        return cls(root, f"index-{short_digest(key)}.npz", f"{version} {key}")

    def load(self) -> tuple[DatasetIndex, DataReport] | None:
        """Return what was stored; None if it is not there, or if any file below the root has changed since."""
        stored = read_arrays(self.name, self.key)
        if stored is None or (files := _files(self.root)) is None or stored[_FILES].tobytes() != files[0]:
            return None
        try:
            header = _Header.model_validate_json(stored[_HEADER].tobytes())
            report = _ReportFile.validate_json(stored[_REPORT].tobytes())
            records = {
                split: PackedRecords.from_arrays(split, header.records[split], stored, f"{split}/")
                for split in SPLITS
                if split in header.records
            }
        except (ValidationError, KeyError, ValueError):
            return None
        return DatasetIndex(dict(records), header.categories), report

    def save(self, index: DatasetIndex, report: DataReport, started: float) -> None:
        """Store the index of a large set without errors.

        Args:
            index: with packed records.
            report: of the same check.
            started: the time (s since the epoch) at which the check started. If a file has changed since, nothing is
                stored.
        """
        num_images = sum(len(records) for records in index.records.values())
        if num_images < MIN_IMAGES or report.errors or report.skipped:
            return
        files = _files(self.root)
        if files is None or files[1] > started - SETTLED_S:
            return
        header = _Header(categories=index.categories, records={})
        arrays: Arrays = {}
        for split, records in index.records.items():
            assert isinstance(records, PackedRecords)
            header.records[split] = records.names()
            arrays |= records.to_arrays(f"{split}/")
        texts = {
            _HEADER: header.model_dump_json().encode(),
            _REPORT: _ReportFile.dump_json(report),
            _FILES: files[0],
        }
        write_arrays(self.name, self.key, {**arrays, **{k: np.frombuffer(v, np.uint8) for k, v in texts.items()}})


def _files(root: Path) -> tuple[bytes, float] | None:
    """Return a digest of the names, sizes and times of change of all files below the root, and the latest time."""
    digest, latest = sha256(), 0.0
    for number, (name, size, changed_ns) in enumerate(_walk(root)):
        if number >= MAX_FILES:
            return None
        digest.update(f"{name}\0{size}\0{changed_ns}\n".encode("utf-8", "surrogatepass"))
        if changed_ns <= time.time_ns():
            latest = max(latest, changed_ns / 1e9)
    return digest.digest(), latest


def _walk(root: Path) -> Iterator[tuple[str, int, int]]:
    for parent, folders, files in walk(root, lists_all=False):
        folders.sort()
        for name in sorted(files):
            path = f"{parent}/{name}"
            try:
                stat = Path(path).stat()
            except OSError:
                yield path, -1, -1
                continue
            yield path, stat.st_size, stat.st_mtime_ns
