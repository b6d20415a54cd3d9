"""The images of a `predict` command: which files are predicted, and what is printed for them. Torch-free."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.base.printable import printable

SKIPPED_FOLDER = "__MACOSX"
"""macOS adds this folder to archives; its files are not images in spite of their names."""


def find_images(paths: Sequence[Path]) -> tuple[list[Path], list[FieldProblem]]:
    """Return the image files that are named or below named folders, and the names and folders without any.

    Hidden files and folders and those of macOS archives are skipped in folders, and so are links to folders. A link
    that leads nowhere counts as a file, so that it is reported when it is read.
    """
    files: list[Path] = []
    problems: list[FieldProblem] = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, it returns False for a name that is too long
            files.append(path)
        elif found := _images_below(path, problems):
            files += found
        else:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            problems.append(FieldProblem(printable(str(path)), f"contains no images ({suffixes})"))
    return files, problems


def _images_below(folder: Path, problems: list[FieldProblem]) -> list[Path]:
    def report(error: OSError) -> None:
        problems.append(FieldProblem(printable(str(error.filename)), f"cannot be listed ({error.strerror})"))

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=report):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != SKIPPED_FOLDER)
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def pictures_folder(option: str | None, default: Path) -> Path | None:
    """Return the folder of the pictures that `--draw [DIR]` asks for; None without the option.

    Raises:
        ConfigError: DIR is a file: an image that follows `--draw` is taken for its value.
    """
    if option is None:
        return None
    folder = Path(option) if option else default
    if os.path.isfile(folder):  # noqa: PTH113 - as in `find_images`
        raise ConfigError(
            FieldProblem("--draw", f"got the file {option!r}; write --draw=DIR, or --draw after the images")
        )
    return folder


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the predictions as one JSON list, unless there are none, and their warnings to stderr."""
    for row in rows:
        for warning in row.get("warnings", ()):
            print(f"warning: {row['file']}: {warning}", file=sys.stderr)
    if rows:
        print(json.dumps(rows, indent=1, allow_nan=False))
        sys.stdout.flush()


def raise_problems(problems: Sequence[FieldProblem]) -> None:
    """Raise DataError, which ends the command with 78, if an image was not predicted."""
    if problems:
        raise DataError(problems)
