"""Counts of images by split, and findings about images and splits without labels. Torch-free."""

from pipelines.base.findings import Finding
from pipelines.base.records import SPLITS, ImageRecord, Split
from pipelines.base.suggested_commands import suggested
from pipelines.data.dataset.checks.report import DataReport, ImageCounts
from pipelines.data.dataset.listing import Listing
from pipelines.spec.job import JobSpec
from pipelines.spec.result import SkippedImage


def count_images(
    job: JobSpec, listing: Listing, records: dict[int, ImageRecord], report: DataReport, splits: list[Split]
) -> None:
    """Count images by split; report images that no layer labels, and splits without labeled images."""
    report.images = {split: ImageCounts() for split in splits}
    for listed in listing.images:
        counts, record = report.images[listed.split], records.get(id(listed))
        counts.listed += 1
        if record is None:
            counts.unusable += 1
        elif record.labels:
            counts.in_index += 1
        else:
            counts.unlabeled += 1
            message = "is listed, but no layer labels it; it is skipped"
            read, labeled = listed.layers[0]
            listing.findings.append(read.finding("unlabelled_image", message, labeled))
    for image, kind in listing.skipped:
        report.images[image.split].listed += 1
        report.images[image.split].skipped += 1
        report.skipped.append(
            SkippedImage.model_validate({"file": image.shown_path, "split": image.split, "kind": kind})
        )
    for split in SPLITS:
        of_split = report.images.get(split, ImageCounts())
        if not of_split.in_index and (split != "test" or of_split.skipped):
            message = _empty_split_message(split, job, report.images.get(split))
            listing.findings.append(Finding("empty_split", message, split=split))


def _empty_split_message(split: Split, job: JobSpec, counts: ImageCounts | None) -> str:
    if counts is not None and counts.skipped:
        skipped = f"{counts.skipped} of its {counts.listed} images are skipped (data.on_error: skip)"
        return f"the split has no readable image with labels; {skipped}"
    if split == "train" or counts is not None:
        return "the split has no readable image with labels; add some, or correct the paths of the source"
    source = next(iter(job.data.sources))
    return (
        f"the data has no {split} split: divide the images with `{suggested('data split', '--write')}`, or set "
        f"data.sources.{source}.splits.{split} to its name on disk"
    )
