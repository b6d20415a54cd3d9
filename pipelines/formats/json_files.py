"""Read JSON label files. Torch-free."""

import json
from typing import Any


def parse_json(data: bytes) -> Any:
    """Return the content of a JSON file in UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is empty, is not JSON, or has an object with a repeated key, whose first value would be lost.
    """
    if not data.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(data, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"it is not UTF-8 text: byte 0x{byte:02x} in line {line}; save it as UTF-8") from None
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {repeated!r} {keys.count(repeated)} times; keep one of them")
    return content
