"""Read the layers of all sources and join them by image. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.base.findings import Finding
from pipelines.base.paths import below
from pipelines.base.records import SPLITS, Split
from pipelines.data.dataset.assigned_splits import AssignedSplits
from pipelines.data.dataset.categories import is_plain_id
from pipelines.data.dataset.clean import LayerCounts
from pipelines.data.dataset.image_files import ImageFolder, examine_images
from pipelines.data.images import ImageFacts
from pipelines.formats.layer import LabelLayer
from pipelines.formats.layer_content import FileId, FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.spec.data import SourceSpec
from pipelines.spec.job import JobSpec
from pipelines.tasks.kinds import kind_of


@dataclass
class ReadLayer:
    """One layer of one split after it was read."""

    split: SourceSplit
    layer: LabelLayer
    content: LayerContent
    counts: LayerCounts

    def finding(
        self, kind: str, message: str, labeled: FileImage | None = None, annotation_id: FileId | None = None
    ) -> Finding:
        """Return a finding in the file of this layer, or in the file that labels one image."""
        if labeled is None:
            return self.split.finding(kind, message, file=self.content.file)
        file = labeled.label_file or self.content.file
        return self.split.finding(kind, message, file=file, image=labeled.file_name, annotation_id=annotation_id)


@dataclass
class ListedImage:
    """An image that at least one layer lists, with the labels of each layer.

    `path` is None for a missing file, and `facts` is None for an image that cannot be used.
    """

    source: str
    split: Split
    file_name: str
    shown_path: str
    layers: list[tuple[ReadLayer, FileImage]] = field(default_factory=list)
    path: Path | None = None
    facts: ImageFacts | None = None
    image_id: int = 0


@dataclass
class Listing:
    """The content of all label files, in a stable order: by split, source name, file name."""

    layers: list[ReadLayer] = field(default_factory=list)
    images: list[ListedImage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def list_images(job: JobSpec, root: Path) -> Listing:
    """Read all layers, join them by relative path, examine every image file, and number the images."""
    listing = Listing()
    folders: dict[Path, ImageFolder] = {}
    assigned = AssignedSplits(root)
    for name, source in sorted(job.data.sources.items()):
        for split in SPLITS:
            if split in source.splits:
                source_split = SourceSplit(root, name, source.images, source.splits, split)
                _list_split(source_split, source, job, listing, folders, assigned)
    listing.findings += assigned.findings()
    _check_test_layers(job, listing)
    listing.images.sort(key=lambda image: (SPLITS.index(image.split), image.source, image.file_name))
    _examine(listing, job.data.sources)
    _number_images(listing)
    _check_unlisted_files(listing, folders, root)
    return listing


def _list_split(
    split: SourceSplit,
    source: SourceSpec,
    job: JobSpec,
    listing: Listing,
    folders: dict[Path, ImageFolder],
    assigned: AssignedSplits,
) -> None:
    """Add the layers and images of one split on disk of one source."""
    joined: dict[Split, tuple[SourceSplit, dict[str, ListedImage]]] = {}
    for position, layer in enumerate(source.labels):
        file = split.fill(layer.listing(split.images))
        try:
            content = layer.read(split, _identity_fields(layer, job))
        except ValueError as error:
            listing.findings.append(split.finding("unsafe_path", str(error), file=file))
            continue
        if content is None:
            if split.split != "test":
                message = f"is missing, or has nothing of the split {split.name_on_disk!r}"
                listing.findings.append(split.finding("missing_label_file", message, file=file))
            continue
        if first := assigned.repeats(content, split, position):
            if split.split != "test" and source.split_file is None:
                message = f"lists the same images for {split.name_on_disk!r} as for {split.split_names[first]!r}"
                listing.findings.append(split.finding("missing_label_file", message, file=file))
            continue
        for part_split, part in assigned.divide(content, split, position, source.split_file):
            _, images = joined.setdefault(part_split.split, (part_split, {}))
            _add_layer(part_split, layer, part, listing, images)
    for part_split, images in joined.values():
        listing.images += images.values()
        if images:
            _locate(list(images.values()), part_split, listing, folders)


def _add_layer(
    split: SourceSplit, layer: LabelLayer, content: LayerContent, listing: Listing, images: dict[str, ListedImage]
) -> None:
    """Add what a layer has for one split, and join it to the split's images by their file names."""
    counts = LayerCounts(split.source_name, split.split, content.file, layer.tasks, content.num_read)
    for kind, number in content.num_refused.items():
        setattr(counts, kind, number)
    listing.findings += content.findings
    read = ReadLayer(split, layer, content, counts)
    listing.layers.append(read)
    for image in content.images.values():
        listed = ListedImage(split.source_name, split.split, image.file_name, split.shown_path(image.file_name))
        images.setdefault(image.file_name, listed).layers.append((read, image))


def _identity_fields(layer: LabelLayer, job: JobSpec) -> set[str]:
    tasks = (job.model.tasks[name] for name in layer.tasks)
    return {name for task in tasks if (name := kind_of(task).identity_field(task)) is not None}


def _check_test_layers(job: JobSpec, listing: Listing) -> None:
    """Report layers without test data if another layer of the source has some."""
    for name, source in sorted(job.data.sources.items()):
        read = [
            layer.layer for layer in listing.layers if (layer.split.source_name, layer.split.split) == (name, "test")
        ]
        for layer in source.labels if read else ():
            if not any(layer is other for other in read):
                message = f"has nothing of the test split; {', '.join(layer.tasks)} cannot be scored there"
                file = layer.listing(source.images).replace("{split}", source.splits.get("test", "test"))
                listing.findings.append(Finding("missing_test_layer", message, name, "test", file))


def _locate(images: list[ListedImage], split: SourceSplit, listing: Listing, folders: dict[Path, ImageFolder]) -> None:
    """Set the path of each image; report images that are missing or outside of the images folder."""
    shown = split.fill(split.images)
    try:
        images_dir = below(split.root, shown)
    except ValueError as error:
        listing.findings.append(split.finding("unsafe_path", str(error), file=shown))
        return
    if not images_dir.is_dir():
        message = f"the images folder is missing; {len(images)} images are listed in it"
        listing.findings.append(split.finding("missing_image", message, file=shown))
        return
    if images_dir not in folders:
        folders[images_dir] = ImageFolder(images_dir)
    folder = folders[images_dir]
    for image in images:
        file = image.layers[0][0].content.file
        try:
            image.path = folder.locate(image.file_name)
        except ValueError as error:
            listing.findings.append(split.finding("unsafe_path", str(error), file=file, image=image.file_name))
        except FileNotFoundError:
            message = f"is missing in the folder {shown!r}"
            listing.findings.append(split.finding("missing_image", message, file=file, image=image.file_name))


def _examine(listing: Listing, sources: dict[str, SourceSpec]) -> None:
    """Set the facts of each image; report images that are unreadable or have another size than declared."""
    to_examine = {
        id(image): (image.path, sources[image.source].exif) for image in listing.images if image.path is not None
    }
    facts_by_image = examine_images(to_examine.values())
    for image in listing.images:
        if id(image) not in to_examine:
            continue
        facts = facts_by_image[to_examine[id(image)]]
        if isinstance(facts, str):
            split = image.layers[0][0].split
            listing.findings.append(split.finding("unreadable_image", facts, file=image.shown_path))
            continue
        image.facts = facts
        for read, labeled in image.layers:
            size_hw = labeled.size_hw
            if size_hw is not None and size_hw != (facts.height, facts.width):
                hint = ""
                if size_hw == (facts.width, facts.height):
                    hint = f"; width and height are swapped: see data.sources.{image.source}.exif"
                message = f"is {facts.width} x {facts.height}, declared as {size_hw[1]} x {size_hw[0]}{hint}"
                listing.findings.append(read.finding("mis_sized_image", message, labeled))


def _number_images(listing: Listing) -> None:
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


def _check_unlisted_files(listing: Listing, folders: dict[Path, ImageFolder], root: Path) -> None:
    """Report image files in the images folders that no label file of any source and split names."""
    listed = {image.path for image in listing.images}
    reported: set[Path] = set()
    for folder_path, folder in sorted(folders.items()):
        for name in folder.images():
            path = folder_path / name
            if path not in listed and path not in reported:
                reported.add(path)
                shown = path.relative_to(root.resolve()).as_posix()
                listing.findings.append(Finding("unlisted_image", "no label file names it", file=shown))
