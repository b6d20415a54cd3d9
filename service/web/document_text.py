"""A job document that somebody has typed: its content, and the lines of its fields. Torch-free."""

from typing import Any

import yaml

from service.web.yaml_places import values_below


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
        return {} if root is None else {pointer: line + 1 for pointer, _, line in values_below(root)}
