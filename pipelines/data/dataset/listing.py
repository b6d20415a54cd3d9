"""All layers of all sources, read and joined by image. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.data.dataset.categories import is_plain_id
from pipelines.data.dataset.checks.findings import Finding
from pipelines.data.dataset.clean import LayerCounts
from pipelines.data.dataset.formats.coco import read_coco
from pipelines.data.dataset.formats.csv_labels import read_csv
from pipelines.data.dataset.formats.image_folder import read_image_folder
from pipelines.data.dataset.formats.layer_content import FileId, FileImage, LayerContent, Place, below
from pipelines.data.dataset.formats.voc import read_voc
from pipelines.data.dataset.image_files import ImageFolder, examine_images
from pipelines.data.dataset.images import ImageFacts
from pipelines.records import SPLITS, Split
from pipelines.spec.data import CocoLayer, CsvLayer, ImageFolderLayer, Layer, SourceSpec, VocLayer
from pipelines.spec.job import JobSpec
from pipelines.tasks.kinds import kind_of


@dataclass
class ReadLayer:
    """One layer of one split, as read."""

    place: Place
    layer: Layer
    content: LayerContent
    counts: LayerCounts

    def tell(
        self, kind: str, message: str, labeled: FileImage | None = None, annotation_id: FileId | None = None
    ) -> Finding:
        """A finding in this layer's file, or in the file that labels the one image."""
        if labeled is None:
            return self.place.finding(kind, message, file=self.content.file)
        file = labeled.label_file or self.content.file
        return self.place.finding(kind, message, file=file, image=labeled.file_name, annotation_id=annotation_id)


@dataclass
class ListedImage:
    """An image that some layer lists, with what each layer says; `facts` is None where it cannot be used."""

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
    """Everything that label files say, in a stable order: by split, source name, file name."""

    layers: list[ReadLayer] = field(default_factory=list)
    images: list[ListedImage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def list_images(job: JobSpec, root: Path) -> Listing:
    """Read all layers, join them by relative path, look at each image file, and number the images."""
    listing = Listing()
    folders: dict[Path, ImageFolder] = {}
    for name in sorted(job.data.sources):
        for split in SPLITS:
            if split in job.data.sources[name].splits:
                _list_split(Place(root, name, job.data.sources[name], split), job, listing, folders)
    _tell_missing_test_layers(job, listing)
    listing.images.sort(key=lambda image: (SPLITS.index(image.split), image.source, image.file_name))
    _examine(listing, job.data.sources)
    _number_images(listing)
    _tell_unlisted_files(listing, folders, root)
    return listing


def _list_split(place: Place, job: JobSpec, listing: Listing, folders: dict[Path, ImageFolder]) -> None:
    """Add the layers and images of one split of one source."""
    joined: dict[str, ListedImage] = {}
    for layer in place.source.labels:
        try:
            content = _read(layer, place, _identity_fields(layer, job))
        except ValueError as error:
            listing.findings.append(place.finding("unsafe_path", str(error), file=_shown_file(layer, place)))
            continue
        if content is None:
            if place.split != "test":
                message = f"is not there, or has nothing of the split {place.split_on_disk!r}"
                listing.findings.append(place.finding("missing_label_file", message, file=_shown_file(layer, place)))
            continue
        counts = LayerCounts(place.source_name, place.split, content.file, layer.tasks, content.num_read)
        for kind, number in content.num_refused.items():
            setattr(counts, kind, number)
        listing.findings += content.findings
        read = ReadLayer(place, layer, content, counts)
        listing.layers.append(read)
        for image in content.images.values():
            shown_path = f"{place.fill(place.source.images)}/{image.file_name}"
            listed = ListedImage(place.source_name, place.split, image.file_name, shown_path)
            joined.setdefault(image.file_name, listed).layers.append((read, image))
    listing.images += joined.values()
    if joined:
        _locate(list(joined.values()), place, listing, folders)


def _read(layer: Layer, place: Place, identity_fields: set[str]) -> LayerContent | None:
    if isinstance(layer, CocoLayer):
        return read_coco(layer, place, identity_fields)
    if isinstance(layer, VocLayer):
        return read_voc(layer, place, identity_fields)
    if isinstance(layer, CsvLayer):
        return read_csv(layer, place)
    assert isinstance(layer, ImageFolderLayer)
    return read_image_folder(layer, place)


def _shown_file(layer: Layer, place: Place) -> str:
    """Where the layer's split is listed, relative to the data root."""
    if isinstance(layer, ImageFolderLayer):
        return place.fill(f"{place.source.images}/{layer.path}")
    return place.fill(layer.image_sets if isinstance(layer, VocLayer) else layer.path)


def _identity_fields(layer: Layer, job: JobSpec) -> set[str]:
    tasks = (job.model.tasks[name] for name in layer.tasks)
    return {name for task in tasks if (name := kind_of(task).identity_field(task)) is not None}


def _tell_missing_test_layers(job: JobSpec, listing: Listing) -> None:
    for name, source in sorted(job.data.sources.items()):
        read = [
            layer.layer for layer in listing.layers if (layer.place.source_name, layer.place.split) == (name, "test")
        ]
        for layer in source.labels if read else ():
            if not any(layer is other for other in read):
                message = f"has nothing of the test split; {', '.join(layer.tasks)} cannot be scored there"
                listing.findings.append(Finding("missing_test_layer", message, name, "test", layer.path))


def _locate(images: list[ListedImage], place: Place, listing: Listing, folders: dict[Path, ImageFolder]) -> None:
    """Give each image its path; tell those that are not there, or not below the images folder."""
    shown = place.fill(place.source.images)
    try:
        images_dir = below(place.root, shown)
    except ValueError as error:
        listing.findings.append(place.finding("unsafe_path", str(error), file=shown))
        return
    if not images_dir.is_dir():
        message = f"the images folder is not there; {len(images)} images are listed in it"
        listing.findings.append(place.finding("missing_image", message, file=shown))
        return
    if images_dir not in folders:
        folders[images_dir] = ImageFolder(images_dir)
    folder = folders[images_dir]
    for image in images:
        file = image.layers[0][0].content.file
        try:
            image.path = folder.locate(image.file_name)
        except ValueError as error:
            listing.findings.append(place.finding("unsafe_path", str(error), file=file, image=image.file_name))
        except FileNotFoundError:
            message = f"there is no such file below {shown}"
            listing.findings.append(place.finding("missing_image", message, file=file, image=image.file_name))


def _examine(listing: Listing, sources: dict[str, SourceSpec]) -> None:
    """Give each image its facts; tell those that cannot be read, or have another size than declared."""
    wanted = {id(image): (image.path, sources[image.source].exif) for image in listing.images if image.path is not None}
    facts_by_image = examine_images(wanted.values())
    for image in listing.images:
        if id(image) not in wanted:
            continue
        facts = facts_by_image[wanted[id(image)]]
        tell: Callable[..., Finding] = image.layers[0][0].place.finding
        if isinstance(facts, str):
            listing.findings.append(tell("unreadable_image", facts, file=image.shown_path))
            continue
        image.facts = facts
        for read, labeled in image.layers:
            size_hw = labeled.size_hw
            if size_hw is not None and size_hw != (facts.height, facts.width):
                hint = ""
                if size_hw == (facts.width, facts.height):
                    hint = f"; its sides are swapped: see data.sources.{image.source}.exif"
                message = f"is {facts.width} x {facts.height}, declared as {size_hw[1]} x {size_hw[0]}{hint}"
                listing.findings.append(read.tell("mis_sized_image", message, labeled))


def _number_images(listing: Listing) -> None:
    """Image ids: those of the files where one source gives them as integers, each image one and each id one image;
    images that no file gives an id are numbered on from the largest. Otherwise all are numbered from 1, in order."""
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


def _tell_unlisted_files(listing: Listing, folders: dict[Path, ImageFolder], root: Path) -> None:
    """Tell image files in the images folders that no label file of any source and split names."""
    listed = {image.path for image in listing.images}
    told: set[Path] = set()
    for folder_path, folder in sorted(folders.items()):
        for name in folder.images():
            path = folder_path / name
            if path not in listed and path not in told:
                told.add(path)
                shown = path.relative_to(root.resolve()).as_posix()
                listing.findings.append(Finding("unlisted_image", "no label file names it", file=shown))
