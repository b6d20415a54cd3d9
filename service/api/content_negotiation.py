"""Media types: of a request, and of a response by the `Accept` header (RFC 9110, section 12.5.1). Torch-free."""

from collections.abc import Sequence
from email.message import Message


def media_type_of(content_type: str) -> str:
    """Return the media type in a `Content-Type` header in lower case; `text/plain` if the header is invalid."""
    declared = Message()
    declared["content-type"] = content_type
    return declared.get_content_type()


def preferred(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the offered media type that an `Accept` header prefers (the first among equals), or None."""
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    return best if _quality(best, ranges) > 0 else None


def _parse(media_range: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in media_range.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 1.0
    return name, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that covers a media type; 0 if it is not accepted."""
    kind = media_type.partition("/")[0]
    for pattern in (media_type, f"{kind}/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
