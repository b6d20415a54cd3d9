"""Truth values in label files, which tools write as numbers or as words. Torch-free."""

from typing import Any

_VALUES: dict[Any, bool] = {
    "": False, "0": False, "false": False, "no": False, "n": False, "f": False, "off": False, "none": False,
    "1": True, "true": True, "yes": True, "y": True, "t": True, "on": True,
}  # fmt: skip


def read_boolean(value: Any) -> bool | None:
    """Return the truth value of a number, a truth value or a word in any case; None if it is neither true nor false.

    A missing value (None, an empty text) is false.
    """
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    if not isinstance(value, str):
        return None
    word = value.strip().lower()
    if word in _VALUES:
        return _VALUES[word]
    try:
        return {0.0: False, 1.0: True}.get(float(word))
    except ValueError:
        return None
