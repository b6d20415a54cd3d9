"""Checks of image contents: equal images, and the fingerprint of a split. Torch-free."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.data.dataset.listing import ListedImage, Listing
from pipelines.spec.data import SourceSpec


def check_repeated_contents(listing: Listing) -> None:
    """Report images with files that are equal byte by byte, across splits or in one split."""
    groups: dict[str, list[ListedImage]] = {}
    for image in listing.images:
        if image.facts is not None:
            groups.setdefault(image.facts.sha256, []).append(image)
    for first, *others in groups.values():
        if not others:
            continue
        where = ", ".join(f"{other.shown_path} ({other.source}, {other.split})" for other in others)
        is_across_splits = any(other.split != first.split for other in others)
        message = f"is the same image as {where}"
        if is_across_splits:
            message += "; keep it in one split only"
        kind = "same_image_in_splits" if is_across_splits else "same_image_in_split"
        finding = first.layers[0][0].split.finding(kind, message, file=first.shown_path, cause=kind)
        listing.findings.append(finding)


def fingerprint(listing: Listing, records: Sequence[ImageRecord], sources: Mapping[str, SourceSpec]) -> str:
    """Return the SHA-256 over the images of a split and their cleaned labels.

    Splits on which every model has the same score have equal fingerprints. They do not depend on
    file names, ids, sources, label formats and the order of entries.
    """
    sha256_by_path = {image.path: image.facts.sha256 for image in listing.images if image.facts is not None}
    lines = sorted(
        json.dumps(
            {
                "image": sha256_by_path[record.path],
                "size": [record.height, record.width],
                "exif": sources[record.source].exif,
                # Without the entry, earlier fingerprints remain valid.
                **_range_entry(sources[record.source]),
                "labels": {task: _plain(labels) for task, labels in record.labels.items()},
            },
            sort_keys=True,
        )
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _range_entry(source: SourceSpec) -> dict[str, Any]:
    return {} if source.value_range is None else {"value_range": [float(end) for end in source.value_range]}


def _plain(labels: Sequence[BoxLabel | str]) -> list[Any]:
    return sorted(
        label
        if isinstance(label, str)
        else json.dumps(
            [
                label.category,
                [float(side) for side in label.bbox_xywh],
                label.is_crowd,
                label.is_difficult,
                float(label.bbox_xywh[2] * label.bbox_xywh[3] if label.area is None else label.area),
                label.identity,
            ]
        )
        for label in labels
    )
