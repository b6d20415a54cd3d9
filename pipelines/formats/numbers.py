"""Numbers in label files. Torch-free."""

from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a value is a finite number of a plausible size, not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
