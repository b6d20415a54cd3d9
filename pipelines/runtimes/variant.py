"""The exports of a model: which of them may be served, and the network of one of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.exports_layout import ExportsDir, VariantDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.exported_variant import ExportedVariant, fastest_first

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


def servable_variants(folder: Path, weights_sha256: str | None = None) -> list[ExportedVariant]:
    """Return the exports of a model that may be served and whose runtime is installed, the fastest first.

    Args:
        folder: of a run, or of an exported model; the export `v` is in `exports/<v.name>/`.
        weights_sha256: of model.safetensors; exports of other weights are left out. None: all are listed.
    """
    found: list[ExportedVariant] = []
    for complete in ExportsDir.of(folder).variants():
        try:
            variant = read_variant(complete.path)
        except ConfigError:
            continue  # of another version
        if weights_sha256 in (None, variant.weights_sha256) and RUNTIMES[variant.runtime].is_installed:
            found.append(variant)
    return fastest_first(found)


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
