"""A job document that somebody has typed: its content, and the lines of its fields. Torch-free."""

from collections.abc import Iterator
from typing import Any

import yaml


class InvalidDocument(ValueError):
    """The text is not YAML, or no mapping."""


class DocumentText:
    """A document as YAML, or as JSON, which is YAML too."""

    def __init__(self, text: str) -> None:
        self._text = text

    def content(self) -> dict[str, Any]:
        """Return the mapping; raises InvalidDocument."""
        try:
            content = yaml.safe_load(self._text)
        except yaml.YAMLError as error:
            raise InvalidDocument(f"got invalid YAML: {' '.join(str(error).split())}; write a job document") from error
        if not isinstance(content, dict):
            kind = "nothing" if content is None else f"a {type(content).__name__}"
            raise InvalidDocument(f"got {kind}; write a job document, a mapping with `model` and `data`")
        return content

    def lines(self) -> dict[str, int]:
        """Return the line, counted from 1, of each field by its pointer (RFC 6901); empty if the text is not YAML."""
        try:
            root = yaml.compose(self._text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            return {}
        return {} if root is None else dict(_lines(root, ""))


def _lines(node: yaml.Node, pointer: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{pointer}/{str(key.value).replace('~', '~0').replace('/', '~1')}"
            yield below, key.start_mark.line + 1
            yield from _lines(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield f"{pointer}/{index}", value.start_mark.line + 1
            yield from _lines(value, f"{pointer}/{index}")
