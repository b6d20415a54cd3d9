"""The description of an export in its folder, and its network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.exports_layout import ExportsDir, VariantDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.exported_variant import ExportedVariant

if TYPE_CHECKING:
    from pipelines.runtimes.network import ExportedNetwork

INSTALL = "pip install pyramidion[export]"


def read_variant(folder: Path) -> ExportedVariant:
    """Return the description of the export in a folder.

    Raises:
        ConfigError: the folder has no complete export, or one of another format.
    """
    try:
        return ExportedVariant.model_validate(json.loads(VariantDir(folder).description.read_text("utf-8")))
    except (OSError, ValueError) as error:
        first = (
            f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}" if isinstance(error, ValidationError) else error
        )
        message = f"is not an export that this version reads: {first}; export the model again"
        raise ConfigError(FieldProblem(str(folder), message)) from error


def read_variants(exports: ExportsDir) -> Iterator[tuple[ExportedVariant, Path]]:
    """Yield the complete exports of a model with their folders, by name; those of another format are skipped."""
    for complete in exports.variants():
        try:
            yield read_variant(complete.path), complete.path
        except ConfigError:
            continue


def load_variant(folder: Path, threads: int | None = None) -> "ExportedNetwork":
    """Return the network of the export in a folder, whether it may be served or not.

    Args:
        folder: such as `exports/openvino-int8`.
        threads: number of threads of one run; by default the number of cores that this process may use.

    Raises:
        ConfigError: the folder has no complete export, or its runtime is not installed.
    """
    from pipelines.runtimes.network import ExportedNetwork

    variant = read_variant(folder)
    runtime = RUNTIMES[variant.runtime]
    if not runtime.is_installed:
        message = f"needs the package {runtime.package}, which is not installed; {INSTALL}"
        raise ConfigError(FieldProblem(str(folder), message))
    try:
        session = runtime.load(folder / variant.graph, variant.precision, threads)
    except Exception as error:  # each runtime has errors of its own
        reason = str(error).strip().rpartition("\n")[2]
        message = f"{variant.graph} cannot be loaded by {runtime.name} ({reason}); export the model again"
        raise ConfigError(FieldProblem(str(folder), message)) from error
    return ExportedNetwork(session, variant.model, variant.temperatures, variant.sizes_hw)
