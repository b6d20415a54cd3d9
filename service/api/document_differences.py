"""The fields in which documents differ. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ABSENT = object()


def differences(documents: Sequence[Any], path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the dotted names of fields that differ, with a value for each document; None if it does not have the field.

    Lists are compared as a whole.
    """
    if all(isinstance(document, Mapping) for document in documents):
        for key in sorted({key for document in documents for key in document}):
            below = f"{path}.{key}" if path else str(key)
            yield from differences([document.get(key, _ABSENT) for document in documents], below)
    elif any(document != documents[0] for document in documents[1:]):
        yield path, [None if document is _ABSENT else document for document in documents]
