"""Leave out images that cannot be used, as `data.on_error: skip` asks for. Torch-free.

An image that is skipped counts as absent: the remaining data, its ids, categories and fingerprints are those of label
files that do not list the image.
"""

from pipelines.base.records import Split
from pipelines.data.dataset.listing import ListedImage, Listing
from pipelines.formats.layer_content import FileImage

KEPT_COPY: tuple[Split, ...] = ("test", "val", "train")
"""The splits that keep an image that is in several: a smaller test set would change what scores mean, and a copy in
train would raise them."""


def leave_out(listing: Listing) -> None:
    """Remove the images with defects, and copies of an image in several splits, from a listing that skips images."""
    if not listing.skips_images:
        return
    _skip_copies(listing)
    skipped = {id(image) for image, _ in listing.skipped}
    listing.images = [image for image in listing.images if id(image) not in skipped]
    for image, _ in listing.skipped:
        for read, labeled in image.layers:
            read.counts.skipped_image += len(labeled.boxes or []) + len(labeled.classes or [])
    _drop_categories(listing)


def _skip_copies(listing: Listing) -> None:
    groups: dict[str, list[ListedImage]] = {}
    for image in listing.images:
        if image.facts is not None:
            groups.setdefault(image.facts.sha256, []).append(image)
    for group in groups.values():
        first = min(group, key=lambda image: KEPT_COPY.index(image.split))
        for image in group:
            if image.split != first.split:
                where = f"{first.shown_path} ({first.source}, {first.split})"
                message = f"is the same image as {where}, which is kept"
                split = image.layers[0][0].split
                listing.add_defect(image, split.finding("same_image_in_splits", message, file=image.shown_path))


def _drop_categories(listing: Listing) -> None:
    """Drop categories that only skipped images have, from layers whose files do not declare categories with ids."""
    remaining: dict[int, set[str]] = {}
    for image in listing.images:
        for read, labeled in image.layers:
            remaining.setdefault(id(read.content.category_ids), set()).update(_names(labeled))
    for image, _ in listing.skipped:
        for read, labeled in image.layers:
            for name in _names(labeled) - remaining.get(id(read.content.category_ids), set()):
                if not read.content.category_ids.get(name, True):
                    del read.content.category_ids[name]


def _names(labeled: FileImage) -> set[str]:
    return {box.category for box in labeled.boxes or []} | set(labeled.classes or [])
