"""Checks of the pixels of image files: truncated files, and the values of files with more than 8 bits. Torch-free."""

from collections.abc import Mapping, Sequence

from pipelines.base.findings import Finding
from pipelines.data.dataset.listing import ListedImage, Listing
from pipelines.data.decoding.truncated_jpeg import truncated_warning
from pipelines.data.decoding.value_range import (
    Storage,
    StoredValues,
    ValueRange,
    out_of_range,
    shown_range,
    suggested_range,
)
from pipelines.spec.data import SourceSpec

SMALL_PART = 0.5
"""A source whose values span less than this part of the default range gets a warning."""


def check_pixels(listing: Listing, sources: Mapping[str, SourceSpec]) -> None:
    """Report truncated images, and sources whose values leave their range or use a small part of it."""
    for image in listing.images:
        if image.facts is not None and image.facts.missing_rows is not None:
            message = truncated_warning(image.facts.missing_rows)
            split = image.layers[0][0].split
            listing.findings.append(split.finding("truncated_image", message, file=image.shown_path))
    for name, source in sorted(sources.items()):
        images = [image for image in listing.images if image.source == name and image.facts is not None]
        _check_values(name, source.value_range, images, listing)


def _check_values(name: str, value_range: ValueRange | None, images: Sequence[ListedImage], listing: Listing) -> None:
    field = f"data.sources.{name}.value_range"
    by_storage: dict[Storage, list[tuple[ListedImage, StoredValues]]] = {}
    for image in images:
        if image.facts is not None and image.facts.values is not None:
            by_storage.setdefault(image.facts.values.storage, []).append((image, image.facts.values))
    if value_range is not None and images and not by_storage:
        message = f"{field} has no effect: all images of this source have 8 bits per channel"
        listing.findings.append(Finding("unused_value_range", message, name))
    for storage, stored in by_storage.items():
        span = StoredValues(storage, min(v.low for _, v in stored), max(v.high for _, v in stored))
        outside = [image for image, values in stored if not values.fit(value_range)]
        if outside:
            others = (
                f" (and {len(outside) - 1} more image{'s' if len(outside) > 2 else ''})" if len(outside) > 1 else ""
            )
            message = f"{out_of_range(span, value_range, field)}{others}"
            split = outside[0].layers[0][0].split
            listing.findings.append(split.finding("values_out_of_range", message, file=outside[0].shown_path))
        elif value_range is None and _is_small(span):
            low, high = storage.range_of(None)
            message = (
                f"its {len(stored)} images of {storage} have values from {span.low:.10g} to {span.high:.10g}, and are "
                f"read as {shown_range((low, high))}, so they have little contrast; if the others are not used, set "
                f"{field} to {shown_range(suggested_range(span))}, else to {shown_range((low, high))}"
            )
            listing.findings.append(Finding("unused_value_range", message, name))


def _is_small(span: StoredValues) -> bool:
    low, high = span.storage.range_of(None)
    return span.storage.bits > 8 and not span.storage.has_own_range and span.high - span.low < SMALL_PART * (high - low)
