"""Exported models on the local disk, copied from the registry on first use."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from pipelines.run_folder.exports_layout import VariantDir
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from pipelines.tracking.stored_exports import StoredExport

_PARTIAL = ".partial-"


class ModelFiles:
    """Folders `<folder>/<model>/<version>-<run>-<time>`: run and time distinguish a re-created model from the old one.

    The exports of a version to other runtimes are below its folder.

    Args:
        folder: created if missing; incomplete copies of earlier processes are removed.
        num_kept: number of most recently used folders to keep from earlier processes.
    """

    def __init__(self, folder: Path, num_kept: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(partial, ignore_errors=True)
        by_age = sorted(folder.glob("*/*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[num_kept:]:
            shutil.rmtree(path, ignore_errors=True)

    def fetch(self, registry: Registry, version: ModelVersion) -> Path:
        """Return the folder with the complete exported model of a version.

        Raises:
            RegistryError: MLflow does not answer.
            ModelFilesUnavailable: MLflow does not have the files.
        """
        path = self._path(version)
        if ExportedModelDir(path).description.is_file():
            os.utime(path)
            return path
        return self._download(registry, version, path)

    def fetch_export(self, registry: Registry, version: ModelVersion, export: StoredExport) -> Path:
        """Return the folder with an export of a version to another runtime; errors as in `fetch`."""
        path = self.fetch(registry, version) / export.path
        if VariantDir(path).description.is_file():
            return path
        return self._download(registry, version, path, export)

    def _download(
        self, registry: Registry, version: ModelVersion, path: Path, export: StoredExport | None = None
    ) -> Path:
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=self._folder) as scratch:
            downloaded = registry.download_exported(version, Path(scratch), export)
            path.parent.mkdir(exist_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            rename_synced(downloaded, path)
        return path

    def discard(self, version: ModelVersion) -> None:
        """Remove the local files of a version."""
        shutil.rmtree(self._path(version), ignore_errors=True)

    def _path(self, version: ModelVersion) -> Path:
        # quote() keeps dots, and a model may be named "..".
        name = quote(version.name, safe="").replace(".", "%2E")
        return self._folder / name / f"{version.version}-{version.run_id}-{round(1000 * version.created_at)}"
