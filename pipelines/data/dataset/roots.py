"""Where data sets may lie: below a data root, and nowhere else. Torch-free."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.errors import ConfigError, FieldProblem
from pipelines.paths import below

DATA_ROOTS_VARIABLE = "PYRAMIDION_DATA_ROOTS"


def data_roots_from_environment(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The data roots that `PYRAMIDION_DATA_ROOTS` names, split at `os.pathsep`; without it the working directory."""
    named = [Path(part) for part in environ.get(DATA_ROOTS_VARIABLE, "").split(os.pathsep) if part]
    return named or [Path()]


def find_root(name: str, data_roots: Sequence[Path]) -> Path:
    """Return the one folder called `name` below the data roots, links resolved.

    Raises:
        ConfigError: `name` is absolute, has `..` or leads out by a link; it lies below no root, or below two.
    """
    hits: dict[Path, Path] = {}
    for data_root in data_roots:
        try:
            path = below(data_root, name)
        except ValueError as error:
            raise ConfigError(
                FieldProblem("data.root", f"{error}; data sets lie below a data root ({_told(data_roots)})")
            ) from None
        if path.is_dir():
            hits.setdefault(path, data_root)
    if len(hits) > 1:
        found = " and ".join(str(path) for path in hits)
        raise ConfigError(
            FieldProblem("data.root", f"{name!r} is there twice, {found}; rename one, or name only one data root")
        )
    if not hits:
        raise ConfigError(
            FieldProblem(
                "data.root",
                f"no folder {name!r} below {_told(data_roots)}; name the folder above it by --data-root or "
                f"{DATA_ROOTS_VARIABLE}",
            )
        )
    return next(iter(hits))


def _told(data_roots: Sequence[Path]) -> str:
    return ", ".join(str(data_root.resolve()) for data_root in data_roots) or "any data root (none is named)"
