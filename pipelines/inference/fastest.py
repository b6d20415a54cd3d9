"""A predictor in the fastest way that is installed: an export of the model, or torch."""

import logging
from pathlib import Path

import torch

from pipelines.base.errors import ConfigError
from pipelines.inference.predictor import Predictor
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.runtimes.choice import better_than_torch
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import read_variants

logger = logging.getLogger(__name__)


def load_fastest(folder: Path, exports: ExportsDir) -> tuple[Predictor, str]:
    """Return a predictor of the model in `folder`, and the name of what computes it: `torch`, or that of an export.

    An export that cannot be loaded is skipped with a warning. On a GPU torch is used.

    Args:
        folder: written by `pipelines.inference.export`.
        exports: of this model; they need not exist.

    Raises:
        ConfigError: the folder holds no usable model.
    """
    found = [] if torch.cuda.is_available() else list(read_variants(exports))
    found = [(variant, path) for variant, path in found if RUNTIMES[variant.runtime].is_installed]
    for variant in better_than_torch([variant for variant, _ in found]):
        try:
            path = next(path for other, path in found if other is variant)
            return Predictor.from_variant(folder, path), variant.name
        except ConfigError as error:
            logger.warning("the export %s cannot be used: %s", variant.name, error)
    return Predictor.from_exported(folder), "torch"
