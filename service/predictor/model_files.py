"""Exported models on this machine's disk, copied from the registry when they are first needed."""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from pipelines.run_folder.layout import ExportedModelDir
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry

_PARTIAL = ".partial-"


class ModelFiles:
    """`<folder>/<model>/<version>-<run>`: a name that is deleted and used again never finds the files of the old one.

    Args:
        folder: made where it is missing; what earlier processes left half done is removed.
        num_kept: so many of the folders used last are kept from earlier processes.
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
        """Return the folder of a version's exported model, whole.

        Raises:
            RegistryError: MLflow does not answer, or has no files of it.
        """
        path = self._path(version)
        if ExportedModelDir(path).description.is_file():
            os.utime(path)
            return path
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=self._folder) as scratch:
            exported = registry.download_exported(version, Path(scratch))
            path.parent.mkdir(exist_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            exported.rename(path)
        return path

    def discard(self, version: ModelVersion) -> None:
        """Remove the files of a version."""
        shutil.rmtree(self._path(version), ignore_errors=True)

    def _path(self, version: ModelVersion) -> Path:
        # quote leaves dots: a model may be called "..".
        name = quote(version.name, safe="").replace(".", "%2E")
        return self._folder / name / f"{version.version}-{version.run_id}"
