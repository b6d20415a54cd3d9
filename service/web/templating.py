"""The templates of the web page with their filters.

Every text is escaped, and control characters are shown as symbols: names of classes and files, and lines of logs, come
from strangers.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from service.rest.document_text import text_of

_SHOWN = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_SHOWN |= {0x7F: "\u2421", **dict.fromkeys(range(128, 160), "�")}
_SHOWN |= {ord(mark): "\ufffd" for mark in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
"""Replacements of control characters, including those that change the direction of the text after them."""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def shown(value: Any) -> Any:
    """Return what a template prints for a value: visible text, and a dash for a missing value."""
    if value is None:
        return "\u2013"
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return value.translate(_SHOWN) if not value.isprintable() else value


def fixed(value: float | None, digits: int = 3) -> str | None:
    """Return a number with a fixed number of decimals; None if there is none."""
    return None if value is None else f"{value:.{digits}f}"


def file_size(num_bytes: int | None) -> str | None:
    """Return a number of bytes in a binary unit."""
    if num_bytes is None:
        return None
    size, unit = float(num_bytes), 0
    while size >= 1024 and unit < len(_BINARY) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_BINARY[unit]}" if unit == 0 else f"{size:.1f} {_BINARY[unit]}"


def duration(seconds: float | None) -> str | None:
    """Return a duration with its two largest units, such as `3 min 20 s`."""
    if seconds is None:
        return None
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            parts.append("")
    return " ".join(part for part in parts[:2] if part)


def moment(text: str | None) -> Markup | None:
    """Return a time of REST as an element that the browser shows in its own zone."""
    if text is None:
        return None
    utc = datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{} UTC</time>').format(text, utc)


def seconds_between(first: str | None, second: str | None) -> float | None:
    """Return the seconds between two times of REST; None if one is missing."""
    if first is None or second is None:
        return None
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def as_json(value: Any) -> str:
    """Return a value as JSON, for an attribute that a script reads."""
    return json.dumps(value, ensure_ascii=False)


def as_query(values: dict[str, Any]) -> str:
    """Return parameters as the query of an address, without empty ones."""
    return urlencode({name: value for name, value in values.items() if value}, doseq=True)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (fixed, file_size, duration, moment, as_json, as_query)
    environment.filters.update({one.__name__: one for one in filters}, as_yaml=text_of)
    environment.globals.update(seconds_between=seconds_between)
    return environment


TEMPLATES = _environment()
