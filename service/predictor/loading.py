"""Load registered models in the runtime that is chosen: torch, or an export that may be served."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from pipelines.base.cpu_features import computes_bfloat16
from pipelines.base.errors import ConfigError, ModelFilesUnavailable, PyramidionError
from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.inference.network import Precision
from pipelines.inference.predictor import Predictor
from pipelines.runtimes.choice import better_than_torch
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import INSTALL
from pipelines.spec.exported_variant import fastest_first
from pipelines.tracking.model_files import ModelFiles
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from pipelines.tracking.stored_exports import StoredExport

logger = logging.getLogger(__name__)

T = TypeVar("T")


class RuntimeUnusable(PyramidionError):
    """A version cannot be computed by the runtime that was chosen."""


class PredictorLoader:
    """Loads predictors of registered versions.

    Args:
        registry: has the versions.
        files: their copies on the disk.
        num_threads: of exported networks.
        batch_size: see `Predictor`.
    """

    def __init__(self, registry: Registry, files: ModelFiles, num_threads: int, batch_size: int) -> None:
        self._registry, self._files = registry, files
        self._num_threads, self._batch_size = num_threads, batch_size

    def load(self, version: ModelVersion, choice: RuntimeChoice) -> tuple[Predictor, str]:
        """Return a predictor, and the name of what computes it, such as `torch` or `openvino-int8`.

        With `auto`, an export that cannot be loaded is skipped with a warning.

        Raises:
            RuntimeUnusable: the version has no export that the chosen runtime can compute.
            ConfigError: the version does not contain a model that this program can load.
            ModelFilesUnavailable: its files are missing.
            RegistryError: MLflow does not answer.
        """
        if choice in ("torch", "torch-bf16") or (choice == "auto" and torch.cuda.is_available()):
            return self._torch(version, choice)
        problems = []
        for export in self._candidates(version, choice):
            name = export.result.name
            try:
                return self._exported(version, export), name
            except (ConfigError, ModelFilesUnavailable, RuntimeUnusable) as error:
                problems.append(f"{name}: {error}")
                logger.warning("%s: the export %s cannot be used: %s", version.uri, name, error)
        if choice == "auto":
            return self._torch(version, choice)
        raise RuntimeUnusable("; ".join(problems) or _no_export(version, choice))

    def discard(self, version: ModelVersion) -> None:
        """Remove the copy of a version on the disk."""
        self._files.discard(version)

    def _torch(self, version: ModelVersion, choice: RuntimeChoice) -> tuple[Predictor, str]:
        precision: Precision = "float32"
        if choice == "torch-bf16" and not torch.cuda.is_available() and not computes_bfloat16():
            logger.warning("this CPU has neither AMX nor AVX512-BF16, so %s is computed in float32", version.uri)
        elif choice == "torch-bf16":
            precision = "bfloat16"

        def load() -> Predictor:
            folder = self._files.fetch(self._registry, version)
            return Predictor.from_exported(folder, precision=precision, batch_size=self._batch_size)

        return self._intact(version, load), "torch" if precision == "float32" else "torch-bf16"

    def _candidates(self, version: ModelVersion, choice: RuntimeChoice) -> Sequence[StoredExport]:
        """Return the exports to try, the fastest first; with `auto` only those that are faster than torch."""
        exports = version.exports
        results = [export.result for export in exports.values() if choice in ("auto", export.result.runtime)]
        ordered = better_than_torch(results) if choice == "auto" else fastest_first(results)
        return [exports[result.name] for result in ordered]

    def _exported(self, version: ModelVersion, export: StoredExport) -> Predictor:
        runtime = RUNTIMES[export.result.runtime]
        if not runtime.is_installed:
            raise RuntimeUnusable(f"needs the package {runtime.package}, which is not installed; {INSTALL}")

        def load() -> Predictor:
            variant = self._files.fetch_export(self._registry, version, export)
            folder = self._files.fetch(self._registry, version)
            return Predictor.from_variant(folder, variant, threads=self._num_threads, batch_size=self._batch_size)

        return self._intact(version, load)

    def _intact(self, version: ModelVersion, load: Callable[[], T]) -> T:
        try:
            return load()
        except ConfigError as error:
            # A crash of this machine may have damaged the local copy; the registry has the original.
            logger.warning("%s; copying it from the registry again", error)
            self._files.discard(version)
            return load()


def _no_export(version: ModelVersion, choice: RuntimeChoice) -> str:
    refused = [
        f"{name} may not be served ({export.result.reason})"
        for name, export in version.exports.items()
        if export.result.runtime == choice
    ]
    found = "; ".join(refused) or f"it has no export for {choice}"
    path = f"/v1/models/{version.name}/versions/{version.version}/exports"
    return f"{version.uri} cannot be computed by {choice}: {found}; POST {path} makes one, and torch needs none"
