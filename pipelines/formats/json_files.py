"""Read JSON label files. Torch-free."""

import json
from typing import Any

from pipelines.base.printable import shortened


def parse_json(data: bytes) -> Any:
    """Return the object or list in a JSON file in UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is empty, is not JSON, has another content, or has an object with a repeated key, whose first
            value would be lost.
    """
    if not data.strip():
        raise _invalid("it is empty")
    try:
        document = json.loads(data, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
        raise _invalid(f"it is not UTF-8 text: byte 0x{byte:02x} in line {line}; save it as UTF-8") from None
    except RecursionError:
        raise _invalid("its lists or objects are nested too deeply") from None
    except ValueError as error:
        raise _invalid(str(error)) from None
    if not isinstance(document, dict | list):
        raise ValueError(f"contains only {shortened(json.dumps(document))}, no object or list; export the file again")
    return document


def _invalid(reason: str) -> ValueError:
    return ValueError(f"is not valid JSON ({reason}); export the file again")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {repeated!r} {keys.count(repeated)} times; keep one of them")
    return content
