"""The categories of a task and their ids. Torch-free."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.base.records import Category
from pipelines.formats.layer_content import FileId

MAX_ID = 2**53
"""Larger integers are not exact in every reader of JSON."""


@dataclass(frozen=True)
class Declared:
    """The categories that one label file declares: ids by name as in the file, and their new names."""

    source: str
    category_ids: Mapping[str, set[FileId]]
    classes: Mapping[str, str | None]

    @property
    def names(self) -> set[str]:
        """The names after renaming, without dropped ones."""
        renamed = {self.classes.get(name, name) for name in self.category_ids}
        return {name for name in renamed if name is not None}


def numbered(names: Collection[str]) -> list[Category]:
    """Return categories 1..K, sorted by name."""
    return [Category(number, name) for number, name in enumerate(sorted(names), start=1)]


def merge_categories(layers: Sequence[Declared]) -> list[Category]:
    """Return the categories of a task, merged by name over its layers.

    If one source gives all ids, as integers that are unique and equal in every split, the ids are kept and the
    categories are sorted by them; merged categories get the id of the one that had the new name before, or else the
    smallest id. Otherwise the categories are numbered 1..K by name.
    """
    names = set().union(*(layer.names for layer in layers)) if layers else set()
    if len({layer.source for layer in layers}) != 1:
        return numbered(names)
    ids: dict[str, int] = {}
    for layer in layers:
        for name in layer.names:
            kept = _kept_id(name, layer)
            if kept is None or ids.setdefault(name, kept) != kept:
                return numbered(names)
    if len(set(ids.values())) != len(ids):
        return numbered(names)
    return sorted((Category(kept, name) for name, kept in ids.items()), key=lambda category: category.id)


def _kept_id(name: str, layer: Declared) -> int | None:
    same = layer.category_ids.get(name, set()) if layer.classes.get(name, name) == name else set()
    merged = {i for old, ids in layer.category_ids.items() if layer.classes.get(old, old) == name for i in ids}
    ids = same or merged
    if not ids or not all(is_plain_id(i) for i in ids):
        return None
    return min(int(i) for i in ids)


def is_plain_id(value: FileId | None, smallest: int = 0) -> bool:
    """Return whether an id can be kept: it is an integer from `smallest` to `MAX_ID`."""
    return isinstance(value, int) and smallest <= value <= MAX_ID
