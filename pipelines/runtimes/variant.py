"""The description of an export in its folder, and its network."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.exports_layout import ExportsDir, VariantDir
from pipelines.run_folder.files import file_sha256
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.exported_variant import ExportedVariant

if TYPE_CHECKING:
    from pipelines.runtimes.network import ExportedNetwork

logger = logging.getLogger(__name__)

INSTALL = 'pip install "pyramidion[export]"'
"""The command that installs all runtimes."""


def read_variant(folder: Path) -> ExportedVariant:
    """Return the description of the export in a folder.

    Raises:
        ConfigError: the folder has no complete export, or one of another format.
    """
    try:
        return ExportedVariant.model_validate(json.loads(VariantDir(folder).description.read_text("utf-8")))
    except (OSError, ValueError) as error:
        message = f"is not an export that this version reads: {_first_problem(error)}; export the model again"
        raise ConfigError(FieldProblem(str(folder), message)) from error


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def read_variants(exports: ExportsDir) -> Iterator[tuple[ExportedVariant, Path]]:
    """Yield the complete exports of a model with their folders, by name; those of another format are skipped with a
    warning."""
    for complete in exports.variants():
        try:
            yield read_variant(complete.path), complete.path
        except ConfigError as error:
            logger.warning("%s", error)


def load_variant(folder: Path, threads: int | None = None, weights: Path | None = None) -> "ExportedNetwork":
    """Return the network of the export in a folder, whether it may be served or not.

    Args:
        folder: such as `exports/openvino-int8`.
        threads: number of threads of one run; by default the number of cores that this process may use.
        weights: model.safetensors of the model that the export has to be of; None: of any model.

    Raises:
        ConfigError: the folder has no complete export, a file of it was changed, it is of other weights, or its runtime
            is not installed.
    """
    from pipelines.runtimes.network import ExportedNetwork

    variant = read_variant(folder)
    runtime = RUNTIMES[variant.runtime]
    if not runtime.is_installed:
        message = f"needs the package {runtime.package}, which is not installed; {INSTALL}"
        raise ConfigError(FieldProblem(str(folder), message))
    _require_evaluated(folder, variant)
    if weights is not None and file_sha256(weights) != variant.weights_sha256:
        message = f"is an export of other weights than {weights}; export the model again"
        raise ConfigError(FieldProblem(str(folder), message))
    try:
        session = runtime.load(folder / variant.graph, variant.precision, threads)
    except Exception as error:  # each runtime has errors of its own
        reason = str(error).strip().rpartition("\n")[2]
        message = f"{variant.graph} cannot be loaded by {runtime.name} ({reason}); export the model again"
        raise ConfigError(FieldProblem(str(folder), message)) from error
    return ExportedNetwork(session, variant.model, variant.temperatures, variant.sizes_hw)


def _require_evaluated(folder: Path, variant: ExportedVariant) -> None:
    """Raise ConfigError if the files of the graph are not those that were evaluated."""
    if variant.graph not in variant.files or variant.graph != RUNTIMES[variant.runtime].graph_file:
        message = f"its model.json names the graph {variant.graph!r}; export the model again"
        raise ConfigError(FieldProblem(str(folder), message))
    for name, sha256 in variant.files.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != sha256:
            message = f"{name} is missing or was changed after the evaluation; export the model again"
            raise ConfigError(FieldProblem(str(folder), message))
