"""Data roots: the folders that data sets must be in. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.paths import below

DATA_ROOTS_VARIABLE = "PYRAMIDION_DATA_ROOTS"


def data_roots_from_environment(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the data roots in `PYRAMIDION_DATA_ROOTS`, split at `os.pathsep`; default: the working directory."""
    named = [Path(part) for part in environ.get(DATA_ROOTS_VARIABLE, "").split(os.pathsep) if part]
    return named or [Path()]


def find_root(name: str, data_roots: Sequence[Path]) -> Path:
    """Return the one folder called `name` below the data roots, links resolved.

    Raises:
        ConfigError: `name` is absolute, contains `..` or leads out through a link; it is missing, or exists twice.
    """
    hits: dict[Path, Path] = {}
    for data_root in data_roots:
        try:
            path = below(data_root, name)
        except ValueError as error:
            raise ConfigError(
                FieldProblem("data.root", f"{error}; data sets must be below a data root ({_shown(data_roots)})")
            ) from None
        if path.is_dir():
            hits.setdefault(path, data_root)
    if len(hits) > 1:
        found = " and ".join(str(path) for path in hits)
        raise ConfigError(
            FieldProblem("data.root", f"{name!r} exists twice, {found}; rename one, or name only one data root")
        )
    if not hits:
        raise ConfigError(
            FieldProblem(
                "data.root",
                f"no folder {name!r} below {_shown(data_roots)}; name the folder that contains it with "
                f"--data-root or {DATA_ROOTS_VARIABLE}",
            )
        )
    return next(iter(hits))


def _shown(data_roots: Sequence[Path]) -> str:
    return ", ".join(str(data_root.resolve()) for data_root in data_roots) or "any data root (none is set)"
