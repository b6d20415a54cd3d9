"""A document as lines of YAML, of which those with values that differ from the defaults are marked. Torch-free."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import yaml

from service.web.yaml_places import values_below

_BREAK = re.compile("[\n\x85\u2028\u2029]")
"""The line breaks of YAML, which its parser counts."""


@dataclass(frozen=True)
class MarkedLine:
    """A line of YAML.

    Attributes:
        text: the line without its line break.
        is_different: whether it belongs to a value that differs from the default, or leads to one.
    """

    text: str
    is_different: bool


def marked_yaml(document: dict[str, Any], differs: Collection[str]) -> list[MarkedLine]:
    """Return a document as YAML.

    Args:
        differs: JSON pointers of the values that differ from the defaults.
    """
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    root = yaml.compose(text, yaml.SafeLoader)
    assert root is not None
    different = frozenset(differs)
    leading = {pointer[:end] for pointer in different for end, character in enumerate(pointer) if character == "/"}
    marked: set[int] = set()
    for pointer, node, first in values_below(root):
        if pointer in different:
            marked.update(range(first, max(first, _last_line(node)) + 1))
        elif pointer in leading:
            marked.add(first)
    return [MarkedLine(line, number in marked) for number, line in enumerate(_BREAK.split(text.removesuffix("\n")))]


def _last_line(node: yaml.Node) -> int:
    """Return the last line of a node; a block ends at the start of the line after it."""
    end = node.end_mark
    return end.line - 1 if end.column == 0 or _is_block(node) else end.line


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style
