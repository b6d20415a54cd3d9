"""Groups of images that stay in one split. Torch-free."""

import csv
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.paths import below, normalized
from pipelines.data.dataset.listing import ListedImage

GroupKey = Callable[[ListedImage], str | None]
"""Returns the group of an image, or None if it has none."""


class DisjointGroups:
    """A partition of 0..n-1 that starts with single numbers, which are joined (union-find)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, number: int) -> int:
        """Return the number that represents the group."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, numbers: Iterable[int]) -> None:
        """Join the groups of all numbers; the smallest number represents the result."""
        roots = {self.root(number) for number in numbers}
        if roots:
            first = min(roots)
            for root in roots:
                self._parent[root] = first

    def join_equal(self, keys: Sequence[Hashable | None]) -> int:
        """Join the numbers with equal keys, except None; return how many keys have several numbers."""
        numbers: dict[Hashable, list[int]] = {}
        for number, key in enumerate(keys):
            if key is not None:
                numbers.setdefault(key, []).append(number)
        several = [same for same in numbers.values() if len(same) > 1]
        for same in several:
            self.join(same)
        return len(several)

    def groups(self) -> list[list[int]]:
        """Return the groups, by their smallest number."""
        members: dict[int, list[int]] = {}
        for number in range(len(self._parent)):
            members.setdefault(self.root(number), []).append(number)
        return [members[root] for root in sorted(members)]


def by_pattern(pattern: str) -> GroupKey:
    """Return a key from the path of an image below the images folder: the pattern's groups, or else its match.

    Raises:
        ConfigError: the pattern is not a regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"got {pattern!r}, which is not a regular expression ({error}); an example is '^([^_]+)_'"
        raise ConfigError(FieldProblem("--group-by", message)) from error

    def key(image: ListedImage) -> str | None:
        match = compiled.search(image.file_name)
        return None if match is None else repr(match.groups() or match.group())

    return key


def by_folder(image: ListedImage) -> str:
    """Return the folder that contains an image."""
    return PurePosixPath(image.shown_path).parent.as_posix()


def by_column(root: Path, name: str, column: str) -> GroupKey:
    """Return a key from a column of a CSV file below the data root.

    The file's column `file_name` holds paths below the data root or below the images folder.

    Raises:
        ConfigError: the file or a column is missing.
    """
    option = "--group-by-column"
    try:
        with below(root, name).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(FieldProblem(option, f"cannot read {name!r} below {root} ({error})")) from error
    if missing := [wanted for wanted in ("file_name", column) if wanted not in header]:
        message = f"{name!r} has no column {missing[0]!r}; its header is {header}"
        raise ConfigError(FieldProblem(option, message))
    groups = {normalized((row["file_name"] or "").strip() or "."): (row[column] or "").strip() for row in rows}
    return lambda image: groups.get(image.shown_path, groups.get(image.file_name)) or None
