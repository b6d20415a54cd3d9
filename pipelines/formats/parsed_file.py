"""JSON and XML files as documents. Torch-free."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any


class BrokenFile(ValueError):
    """The file cannot be parsed; the message says why."""


def parse_json(path: Path) -> Any:
    """Return the document in a JSON file.

    Raises:
        BrokenFile: it is unreadable or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFile(f"is not valid JSON ({error})") from None


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file without a document type, whose entities could grow without limit.

    Raises:
        BrokenFile: it is unreadable or not XML, or declares a document type.
    """
    try:
        data = path.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ElementTree.ParseError("it declares a document type or entities, which are not supported")
        return ElementTree.fromstring(data)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise BrokenFile(f"is not valid XML ({error})") from None
