"""Change fields of a document's text, and keep its comments and order. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipelines.base.errors import ConfigError
from pipelines.spec.load import Dumper, apply_override, read_yaml


def with_fields(text: str, parent: Sequence[str], fields: Mapping[str, Any]) -> str | None:
    """Return the text of a document in which `fields` of the mapping `parent` are set.

    New fields come first in the mapping. Everything else keeps its text.

    Args:
        text: valid YAML.
        parent: keys from the top to the mapping.
        fields: the new values.

    Returns:
        The new text; None if the text has no such mapping, or cannot be changed in place (anchors, for example).
    """
    expected = read_yaml(text, "document")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in parent:
        node = _child(node, key)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return None
    for name, value in fields.items():
        expected = apply_override(expected, ".".join([*parent, name]), value)
    for key_node, value_node in reversed(node.value):
        if key_node.value in fields:
            shown = inline_yaml(fields[key_node.value])
            text = text[: value_node.start_mark.index] + shown + text[value_node.end_mark.index :]
    present = {key_node.value for key_node, _ in node.value}
    added = [f"{name}: {inline_yaml(value)}" for name, value in fields.items() if name not in present]
    first = node.value[0][0].start_mark
    separator = ", " if node.flow_style else "\n" + " " * first.column
    text = text[: first.index] + "".join(f"{line}{separator}" for line in added) + text[first.index :]
    try:
        return text if read_yaml(text, "document") == expected else None
    except ConfigError:
        return None


def _child(node: Any, key: str) -> Any:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def inline_yaml(value: Any) -> str:
    """Return a value as YAML in one line, which is also valid inside `{}` and `[]`."""
    text = yaml.dump({"value": value}, Dumper=Dumper, default_flow_style=True, width=10**9, sort_keys=False)
    return text.strip().removeprefix("{value: ").removesuffix("}")
