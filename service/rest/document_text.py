"""Job documents as the YAML text that people write and read. Torch-free."""

import json
from collections.abc import Mapping
from typing import Any

from pipelines.base.errors import ConfigError
from pipelines.spec.load import read_yaml, write_yaml


class InvalidDocument(ValueError):
    """The text is not YAML, or no mapping that JSON can represent."""


def document_of(text: str) -> dict[str, Any]:
    """Return the mapping in a text of YAML, or of JSON, which is YAML too, as the command line reads it.

    A text of 1 MiB takes several seconds.

    Raises:
        InvalidDocument: the text has no such mapping.
    """
    try:
        document = read_yaml(text, "document")
        json.dumps(document)
    except ConfigError as error:
        raise InvalidDocument("; ".join(problem.message for problem in error.problems)) from error
    except (TypeError, ValueError) as error:  # a value with a tag, such as !!binary
        raise InvalidDocument(f"got a value that JSON does not have: {error}; write a text or a number") from error
    if not isinstance(document, dict):
        kind = "nothing" if document is None else f"a {type(document).__name__}"
        raise InvalidDocument(f"got {kind}; write a job document, a mapping with `model` and `data`")
    return document


def text_of(document: Mapping[str, Any]) -> str:
    """Return a document as text that `document_of` reads."""
    return write_yaml(document)
