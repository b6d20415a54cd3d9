"""Read the layers of all sources and join them by image. Torch-free."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.base.findings import Finding
from pipelines.base.paths import below
from pipelines.base.printable import is_encodable
from pipelines.base.records import SPLITS, Split
from pipelines.data.dataset.assigned_splits import AssignedSplits
from pipelines.data.dataset.clean import LayerCounts
from pipelines.data.dataset.image_files import ImageFolder
from pipelines.data.dataset.missing_images import MisplacedImages
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
    """The content of all label files, in a stable order: by split, source name, file name.

    Attributes:
        images: the listed images, without those that are skipped.
        skipped: the images that are left out, each with the kind of its defect (only if `skips_images`).
        folders: the images folders, by path.
        skips_images: the document's `data.on_error` is `skip`.
    """

    layers: list[ReadLayer] = field(default_factory=list)
    images: list[ListedImage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    skipped: list[tuple[ListedImage, str]] = field(default_factory=list)
    folders: dict[Path, ImageFolder] = field(default_factory=dict)
    skips_images: bool = False

    def add_defect(self, image: ListedImage, finding: Finding) -> None:
        """Add a finding about an image that cannot be used; the image is skipped if the document says so."""
        if self.skips_images:
            self.skipped.append((image, finding.kind))
            finding = replace(finding, message=f"{finding.message}; it is skipped", is_skipped=True)
        self.findings.append(finding)


def list_images(job: JobSpec, root: Path) -> Listing:
    """Read all layers, join them by relative path, and locate every image file."""
    listing = Listing(skips_images=job.data.on_error == "skip")
    assigned = AssignedSplits(root)
    misplaced = MisplacedImages(root)
    for name, source in sorted(job.data.sources.items()):
        for split in SPLITS:
            if split in source.splits:
                source_split = SourceSplit(root, name, source.images, source.splits, split)
                _list_split(source_split, source, job, listing, assigned, misplaced)
    listing.findings += assigned.findings()
    _check_test_layers(job, listing)
    listing.images.sort(key=lambda image: (SPLITS.index(image.split), image.source, image.file_name))
    return listing


def _list_split(
    split: SourceSplit,
    source: SourceSpec,
    job: JobSpec,
    listing: Listing,
    assigned: AssignedSplits,
    misplaced: MisplacedImages,
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
            _locate(list(images.values()), part_split, listing, misplaced)


def _add_layer(
    split: SourceSplit, layer: LabelLayer, content: LayerContent, listing: Listing, images: dict[str, ListedImage]
) -> None:
    """Add what a layer has for one split, and join it to the split's images by their file names."""
    counts = LayerCounts(split.source_name, split.split, content.file, layer.tasks, content.num_read)
    for kind, number in content.num_refused.items():
        setattr(counts, kind, number)
    listing.findings += content.findings
    read = ReadLayer(split, layer, content, counts)
    _check_names(read, listing)
    listing.layers.append(read)
    for image in content.images.values():
        listed = ListedImage(split.source_name, split.split, image.file_name, split.shown_path(image.file_name))
        images.setdefault(image.file_name, listed).layers.append((read, image))


def _check_names(read: ReadLayer, listing: Listing) -> None:
    """Report names of images, classes and identities that could not be written to results."""
    for name in [name for name in read.content.images if not is_encodable(name)]:
        message = "has a name that is not valid UTF-8 text; rename the file, and correct its name in label files"
        listing.findings.append(read.finding("undecodable_name", message, read.content.images[name]))
    new_names = {name for name in read.layer.classes.values() if name is not None}
    for name in [name for name in read.content.category_ids.keys() | new_names if not is_encodable(name)]:
        message = f"the class {name!r} is not valid UTF-8 text (half of a character, such as a cut emoji); rename it"
        listing.findings.append(read.finding("undecodable_name", message))
    for image in read.content.images.values():
        for box in image.boxes or ():
            for field_name, identity in box.identities.items():
                if not is_encodable(identity):
                    message = f"{field_name} is {identity!r}, which is not valid UTF-8 text; rename it"
                    listing.findings.append(read.finding("undecodable_name", message, image, box.annotation_id))


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


def _locate(images: list[ListedImage], split: SourceSplit, listing: Listing, misplaced: MisplacedImages) -> None:
    """Set the path of each image; report images that are missing or outside of the images folder."""
    shown = split.fill(split.images)
    try:
        images_dir = below(split.root, shown)
    except ValueError as error:
        listing.findings.append(split.finding("unsafe_path", str(error), file=shown))
        return
    if not images_dir.is_dir():
        advice = misplaced.folder_advice([image.file_name for image in images], split)
        message = f"the images folder is missing; {len(images)} images are listed in it; {advice}"
        listing.findings.append(split.finding("missing_image", message, file=shown))
        return
    if images_dir not in listing.folders:
        listing.folders[images_dir] = ImageFolder(images_dir)
    folder = listing.folders[images_dir]
    missing: dict[str, ListedImage] = {}
    for image in images:
        file = image.layers[0][0].content.file
        if not is_encodable(image.file_name):
            continue
        try:
            image.path = folder.locate(image.file_name)
        except ValueError as error:
            listing.findings.append(split.finding("unsafe_path", str(error), file=file, image=image.file_name))
        except FileNotFoundError:
            missing[image.file_name] = image
    names = [image.file_name for image in images]
    for name, reason in misplaced.reasons(missing, names, folder.images(), split).items():
        message = f"is missing in the folder {shown!r}; {reason.advice}"
        file = missing[name].layers[0][0].content.file
        finding = split.finding("missing_image", message, file=file, image=name, cause=reason.cause)
        listing.add_defect(missing[name], finding)
