"""Numbers with their nouns. Torch-free."""


def quantity(number: int, noun: str) -> str:
    """Return the number with its noun in the right form, as in `1 error` and `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
