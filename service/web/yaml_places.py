"""Places of the values in a YAML text. Torch-free."""

from collections.abc import Iterator

import yaml


def lines_of(text: str) -> dict[str, int]:
    """Return the line, counted from 1, of each value of a valid YAML text by its pointer (RFC 6901)."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return {} if root is None else {pointer: line + 1 for pointer, _, line in values_below(root)}


def values_below(node: yaml.Node, pointer: str = "") -> Iterator[tuple[str, yaml.Node, int]]:
    """Yield each value below a node: its pointer (RFC 6901), its node, and the line of its key or position, from 0."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{pointer}/{str(key.value).replace('~', '~0').replace('/', '~1')}"
            yield below, value, key.start_mark.line
            yield from values_below(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield f"{pointer}/{position}", value, value.start_mark.line
            yield from values_below(value, f"{pointer}/{position}")
