"""The document of a command, completed if it is a short one that leaves the settings to a recipe. Torch-free."""

from collections.abc import Callable
from pathlib import Path

from pipelines.data.drafting.commands import place_of
from pipelines.data.drafting.finetune import ChosenDocument, choose_document
from pipelines.data.drafting.machine import this_machine
from pipelines.data.drafting.short_document import parts_of, stand_in
from pipelines.preflight import Places, find_data
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import RECIPE, Document, merge, read_document, validate_document


def complete(
    document: Document, places: Places, run_dir: RunDir | None, has_gpu: Callable[[], bool], *, is_stored: bool = False
) -> ChosenDocument:
    """Return the complete document; a document that names no recipe is returned as it is.

    A run that has trained keeps the document of its folder, with the given parts, which must not differ.

    Args:
        document: as the user gave it.
        places: where to look for the data.
        run_dir: the run folder, if the command has one.
        has_gpu: returns whether this machine has a GPU.
        is_stored: the document in the run folder is complete, although the run has not trained: another rank wrote it.

    Raises:
        ConfigError, DataError: nothing can be chosen, see `choose_document`, or a given part is invalid.
    """
    if RECIPE not in document:
        return ChosenDocument(document, "")
    short = document
    if places.data_root is not None and "root" not in (document.get("data") or {}):
        data = {**(document.get("data") or {}), "root": place_of(places.data_root)[0]}
        short = {**document, "data": data}
    job = validate_document(stand_in(short))
    if run_dir is not None and run_dir.job_yaml.exists() and (is_stored or run_dir.has_checkpoint):
        stored = read_document(str(run_dir.job_yaml))
        if RECIPE not in stored:
            return ChosenDocument(merge(stored, parts_of(document)), "")
    folder: Path = find_data(job, places)
    machine = this_machine(has_gpu=job.trainer.accelerator != "cpu" and has_gpu())
    return choose_document(short, folder, machine)
