"""Examine the listed images: facts about their files, declared sizes, ids, and unlisted files. Torch-free."""

from collections.abc import Mapping
from pathlib import Path

from pipelines.base.findings import Finding
from pipelines.data.dataset.categories import is_plain_id
from pipelines.data.dataset.image_files import examine_images
from pipelines.data.dataset.listing import ListedImage, Listing
from pipelines.formats.layer_content import FileId
from pipelines.spec.data import SourceSpec


def examine_listed(listing: Listing, sources: Mapping[str, SourceSpec], root: Path) -> None:
    """Set the facts of each image, and report images that are unreadable."""
    to_examine = {
        id(image): (image.path, sources[image.source].exif) for image in listing.images if image.path is not None
    }
    facts_by_image = examine_images(to_examine.values(), root)
    for image in listing.images:
        if id(image) not in to_examine:
            continue
        facts = facts_by_image[to_examine[id(image)]]
        if isinstance(facts, str):
            split = image.layers[0][0].split
            listing.add_defect(image, split.finding("unreadable_image", facts, file=image.shown_path))
            continue
        image.facts = facts


def check_declared_sizes(listing: Listing) -> None:
    """Report images that have another size than their label files declare."""
    for image in listing.images:
        facts = image.facts
        if facts is None:
            continue
        for read, labeled in image.layers:
            size_hw = labeled.size_hw
            if size_hw is not None and size_hw != (facts.height, facts.width):
                hint = ""
                if size_hw == (facts.width, facts.height):
                    hint = f"; width and height are swapped: see data.sources.{image.source}.exif"
                message = f"is {facts.width} x {facts.height}, declared as {size_hw[1]} x {size_hw[0]}{hint}"
                listing.findings.append(read.finding("mis_sized_image", message, labeled))


def number_images(listing: Listing) -> None:
    """Set the image ids.

    The ids of the label files are kept if the job has one source, its ids are integers, and ids and images match
    one to one; images without an id are then numbered from the largest id on. Otherwise all images are numbered from 1
    in their order.
    """
    ids = [_file_ids(image) for image in listing.images]
    given = [next(iter(file_ids)) for file_ids in ids if file_ids]
    is_kept = (
        len({image.source for image in listing.images}) == 1
        and all(len(file_ids) <= 1 for file_ids in ids)
        and all(is_plain_id(file_id) for file_id in given)
        and len(set(given)) == len(given)
    )
    last = max((int(file_id) for file_id in given), default=0) if is_kept else 0
    for image, file_ids in zip(listing.images, ids, strict=True):
        if is_kept and file_ids:
            image.image_id = int(next(iter(file_ids)))
        else:
            last += 1
            image.image_id = last


def _file_ids(image: ListedImage) -> set[FileId]:
    return {labeled.file_id for _, labeled in image.layers if labeled.file_id is not None}


def check_unlisted_files(listing: Listing, root: Path) -> None:
    """Report image files in the images folders that no label file of any source and split names."""
    images = [*listing.images, *(image for image, _ in listing.skipped)]
    listed = {image.path for image in images}
    # Images with a name that is not text are listed, but were not looked up.
    listed_names = {image.shown_path for image in images if image.path is None}
    reported: set[Path] = set()
    root = root.resolve()
    for folder_path, folder in sorted(listing.folders.items()):
        for name in folder.images():
            path = folder_path / name
            if path in listed or path in reported:
                continue
            reported.add(path)
            shown = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
            if shown not in listed_names:
                listing.findings.append(Finding("unlisted_image", "no label file names it", file=shown))
