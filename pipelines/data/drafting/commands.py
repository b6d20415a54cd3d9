"""Implementation of `pyramidion init`. Torch-free."""

from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.findings import Finding
from pipelines.base.links import FOLLOW_LINKS_OPTION, link_policy
from pipelines.base.suggested_commands import next_steps, set_data_arguments, suggested
from pipelines.data.dataset.roots import data_roots_from_environment
from pipelines.data.drafting.choices import SPLIT_FILE, choose_settings, measure
from pipelines.data.drafting.document import write_document
from pipelines.data.drafting.readings import choose, find_readings
from pipelines.data.drafting.short_document import job_name
from pipelines.data.splitting.commands import split_data
from pipelines.data.splitting.division import SplitSettings
from pipelines.data.splitting.near_duplicates import DEFAULT_DISTANCE
from pipelines.formats.folder_contents import FolderReading
from pipelines.run_folder.files import write_atomic
from pipelines.spec.load import load_job

SKIPPABLE = frozenset({"unreadable_image", "missing_image", "same_image_in_splits"})
_EXAMPLES = 5


def init_document(
    folder: Path, to: Path, *, number: int | None = None, divide: bool = False, force: bool = False
) -> int:
    """Write a document for the data in a folder, print how it was read and the next commands, and return 0.

    Args:
        folder: contains images and labels.
        to: the document.
        number: of the reading, from 1; default: the best one.
        divide: divide the images if there is no val split.
        force: overwrite an existing document.

    Raises:
        ConfigError: the document exists.
        DataError: as `find_readings` and `choose`.
    """
    if to.exists() and not force:
        raise ConfigError(FieldProblem(str(to), "exists; name another file with --to, or replace it with --force"))
    readings = find_readings(folder)
    reading = choose(readings, number)
    _print_readings(readings, reading)
    for name, text in reading.new_files.items():
        _write(folder / name, text)
        print(f"Wrote {folder / name}, which this format needs; change the names of the classes in it")
    split_file = SPLIT_FILE if (folder / SPLIT_FILE).is_file() else None
    facts = measure(folder, reading, split_file)
    root, place = place_of(folder)
    document = write_document(
        reading, facts, choose_settings(facts), name=job_name(folder.resolve()), root=root, split_file=split_file
    )
    _write(to, document)
    counts = ", ".join(f"{count} {split}" for split, count in facts.num_images.items())
    print(f"Wrote {to}: {counts} images; {facts.num_labels} labels of {facts.num_classes} classes")
    _print_errors(facts.errors)
    set_data_arguments(["--config", str(to), *place, *([FOLLOW_LINKS_OPTION] if link_policy() == "follow" else [])])
    lacks_val = not facts.num_images.get("val")
    if lacks_val and divide:
        settings = SplitSettings(near=DEFAULT_DISTANCE)
        split_data(load_job([str(to)]), folder, settings, configs=[str(to)], edit=True)
    elif lacks_val:
        print("The data has no val split, which training needs. Divide the images first:")
        print(f"  {suggested('data split', '--write')}")
    print(next_steps("data check", "data show", "fit"))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        raise ConfigError(FieldProblem(str(path), f"cannot be written ({error.strerror})")) from error


def _print_errors(errors: list[Finding]) -> None:
    for finding in errors[:_EXAMPLES]:
        print(f"error in the data: {finding}")
    if len(errors) > _EXAMPLES:
        print(f"and {len(errors) - _EXAMPLES} more errors, which `pyramidion data check` lists")
    if errors and {finding.kind for finding in errors} <= SKIPPABLE:
        print("To train without these images, add `on_error: skip` below `data:` in the document.")


def _print_readings(readings: list[FolderReading], chosen: FolderReading) -> None:
    print(f"Format {chosen.format}: {chosen.reason}")
    if len(readings) == 1:
        return
    better = [other for other in readings if other.has_boxes == chosen.has_boxes and other is not chosen]
    if chosen is readings[0]:
        why = "no other one labels more images" if better else "boxes are preferred to classes of images"
        print(f"This reading was chosen because {why}. Others, which --reading NUMBER chooses:")
    else:
        print("Others, which --reading NUMBER chooses:")
    for position, reading in enumerate(readings, start=1):
        if reading is not chosen:
            print(f"  {position}: format {reading.format}: {reading.reason}")


def place_of(folder: Path) -> tuple[str, list[str]]:
    """Return `data.root` of a folder, and the words that commands need to find it."""
    resolved = folder.resolve()
    for data_root in data_roots_from_environment():
        if resolved.is_relative_to(data_root.resolve()):
            return resolved.relative_to(data_root.resolve()).as_posix(), []
    return resolved.name, ["--data-root", str(resolved.parent)]
