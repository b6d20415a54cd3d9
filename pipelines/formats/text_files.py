"""Read text label files. Torch-free."""


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        ValueError: it has another encoding.
    """
    if b"\0" in data:
        raise ValueError("is not UTF-8 text (it has zero bytes, as UTF-16 has); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}; it may be Latin-1 or Windows-1252); "
            "save it as UTF-8"
        ) from None


def text_lines(data: bytes) -> list[str]:
    """Return the lines of a file in UTF-8; raises ValueError as `decode_text`."""
    return decode_text(data).splitlines()
