"""Divide the images of a job's sources into splits. Torch-free."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.records import SPLITS, Split
from pipelines.data.dataset.examination import examine_listed
from pipelines.data.dataset.listing import ListedImage, list_images
from pipelines.data.source_images import read_source_image
from pipelines.data.splitting.groups import DisjointGroups, GroupKey
from pipelines.data.splitting.near_duplicates import join_near_duplicates
from pipelines.data.splitting.stratification import Unit, stratify
from pipelines.formats.split_file import read_split_file
from pipelines.spec.job import JobSpec

DEFAULT_SHARE = 0.15


@dataclass(frozen=True)
class SplitSettings:
    """Settings of a division of images.

    Attributes:
        shares: the wanted shares of val and test; None: none for a split on disk, with `keep` the share in the split
            file, and otherwise `DEFAULT_SHARE`.
        seed: of all random choices.
        group_by: images with the same key stay together.
        near: largest number of differing bits of near-duplicates; None: only equal files stay together.
        keep: images in the split file keep their split.
        ignore_disk: images are divided anew, whatever their split on disk.
    """

    shares: Mapping[Split, float | None] = field(default_factory=dict)
    seed: int = 0
    group_by: GroupKey | None = None
    near: int | None = None
    keep: bool = False
    ignore_disk: bool = False


@dataclass(frozen=True)
class Division:
    """The result: the split of each image, and how it came about.

    Attributes:
        images: in the order of `splits`.
        stored: by source, the splits on disk that have images.
        num_groups: groups of several images.
        largest: the number of images in the largest group.
        num_equal: files that occur more than once.
        num_near: images with a near-duplicate.
        num_keys: values of `group_by` that several images have.
        num_without_key: images without a value.
        num_kept: images that kept their split.
        num_torn: groups whose images were in several splits before.
    """

    images: Sequence[ListedImage]
    splits: Sequence[Split]
    stored: Mapping[str, Sequence[Split]]
    num_groups: int = 0
    largest: int = 1
    num_equal: int = 0
    num_near: int = 0
    num_keys: int = 0
    num_without_key: int = 0
    num_kept: int = 0
    num_torn: int = 0

    def by_path(self) -> dict[str, Split]:
        """Return the splits by the path of an image below the data root."""
        return {image.shown_path: split for image, split in zip(self.images, self.splits, strict=True)}


def divide(job: JobSpec, root: Path, sources: Collection[str], split_file: str, settings: SplitSettings) -> Division:
    """Return the splits of all images that the label files of `sources` list.

    Raises:
        DataError: no image is listed, or all splits are on disk already.
        ConfigError: the shares leave nothing for train, or the images form fewer groups than there are splits.
    """
    images, stored = _images_on_disk(job, root, sources)
    groups = DisjointGroups(len(images))
    num_equal = groups.join_equal([image.facts.sha256 if image.facts else None for image in images])
    num_near = 0
    if settings.near is not None:
        readers = [
            partial(read_source_image, image.path, image.source, job.data.sources[image.source])
            if image.path and image.facts
            else None
            for image in images
        ]
        num_near = join_near_duplicates(groups, readers, settings.near)
    keys = [settings.group_by(image) if settings.group_by else None for image in images]
    num_keys = groups.join_equal(keys)
    members = groups.groups()
    given = _given_splits(images, root, split_file, settings)
    units = [
        _unit([images[number] for number in numbers], [given[number] for number in numbers]) for numbers in members
    ]
    shares = _shares(settings, given)
    assigned = stratify(units, shares, settings.seed)
    splits: list[Split] = ["train"] * len(images)
    for numbers, split in zip(members, assigned, strict=True):
        for number in numbers:
            splits[number] = split
    _require_all(splits, shares, len(members))
    return Division(
        images=images,
        splits=splits,
        stored=stored,
        num_groups=sum(len(numbers) > 1 for numbers in members),
        largest=max(map(len, members)),
        num_equal=num_equal,
        num_near=num_near,
        num_keys=num_keys,
        num_without_key=sum(key is None for key in keys) if settings.group_by else 0,
        num_kept=sum(split is not None for split in given),
        num_torn=sum(len({given[number] for number in numbers} - {None}) > 1 for numbers in members),
    )


def _images_on_disk(
    job: JobSpec, root: Path, sources: Collection[str]
) -> tuple[list[ListedImage], dict[str, list[Split]]]:
    """Return the images of the sources without their split files, and the splits on disk that have some."""
    on_disk = {
        name: source.model_copy(update={"split_file": None})
        for name, source in job.data.sources.items()
        if name in sources
    }
    listing = list_images(job.model_copy(update={"data": job.data.model_copy(update={"sources": on_disk})}), root)
    examine_listed(listing, on_disk, root)
    if not listing.images:
        problems = [FieldProblem("", str(finding)) for finding in listing.findings[:5]]
        raise DataError(
            [FieldProblem("data.sources", "the label files list no image that could be divided"), *problems]
        )
    stored = {
        name: [split for split in SPLITS if any((i.source, i.split) == (name, split) for i in listing.images)]
        for name in on_disk
    }
    return sorted(listing.images, key=lambda image: image.shown_path), stored


def _given_splits(
    images: Sequence[ListedImage], root: Path, split_file: str, settings: SplitSettings
) -> list[Split | None]:
    """Return the splits that images have already, in the split file or on disk (val and test)."""
    kept: Mapping[str, Split] = {}
    if settings.keep:
        content = read_split_file(root, split_file)
        if content.findings:
            raise DataError([FieldProblem("", str(finding)) for finding in content.findings])
        kept = content.splits
    on_disk = {image.shown_path: image.split for image in images if image.split != "train"}
    if settings.ignore_disk:
        on_disk = {}
    return [kept.get(image.shown_path, on_disk.get(image.shown_path)) for image in images]


def _shares(settings: SplitSettings, given: Sequence[Split | None]) -> dict[Split, float]:
    """Return the shares of the splits that get images."""
    shares: dict[Split, float] = {}
    for split in SPLITS[1:]:
        wanted = settings.shares.get(split)
        if split in given and not settings.keep:
            if wanted is not None:
                message = (
                    f"got {wanted:g}, but {given.count(split)} images are in {split} on disk; omit it, or add --all"
                )
                raise ConfigError(FieldProblem(f"--{split}", message))
            continue
        if wanted is None:
            num_kept = len(given) - given.count(None) if settings.keep else 0
            wanted = given.count(split) / num_kept if num_kept else DEFAULT_SHARE
        shares[split] = wanted
    if not shares:
        raise DataError(FieldProblem("", "the data has val and test on disk already; --all divides all images anew"))
    if sum(shares.values()) >= 1 or min(shares.values()) < 0:
        got = " and ".join(f"--{split} {share:g}" for split, share in shares.items())
        raise ConfigError(FieldProblem("", f"got {got}; write shares that leave a part for train, such as 0.15 each"))
    return {split: share for split, share in shares.items() if share}


def _unit(images: Sequence[ListedImage], given: Sequence[Split | None]) -> Unit:
    """Return the images of a group as one unit; images that are in several splits already follow test, then val."""
    labels: Counter[Hashable] = Counter()
    for image in images:
        labels.update(classes_in(image).keys())
        labels[(image.source,)] += 1
    split = next((split for split in reversed(SPLITS) if split in given), None)
    return Unit(len(images), labels, split)


def classes_in(image: ListedImage) -> Counter[tuple[str, str]]:
    """Return the number of objects, or 1 for a class of the image, by task and class; without dropped classes."""
    counts: Counter[tuple[str, str]] = Counter()
    for read, labeled in image.layers:
        names = [box.category for box in labeled.boxes or [] if not box.is_crowd] + list(set(labeled.classes or []))
        for old in names:
            new = read.layer.classes.get(old, old)
            if new is not None:
                counts.update((task, new) for task in read.layer.tasks)
    return counts


def _require_all(splits: Sequence[Split], wanted: Collection[Split], num_groups: int) -> None:
    if missing := [split for split in ("train", *wanted) if split not in splits]:
        message = (
            f"the {len(splits)} images form {num_groups} groups that stay together, so that {' and '.join(missing)} "
            "would be empty; group less (--group-by, --near), or set the share of the split to 0"
        )
        raise ConfigError(FieldProblem("", message))
