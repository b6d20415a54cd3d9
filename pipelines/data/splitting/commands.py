"""Implementation of `pyramidion data split`. Torch-free."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.paths import below
from pipelines.base.records import Split
from pipelines.data.splitting.division import Division, SplitSettings, divide
from pipelines.data.splitting.report import render_division
from pipelines.formats.split_file import split_file_text
from pipelines.run_folder.files import write_atomic
from pipelines.spec.edit import inline_yaml, with_fields
from pipelines.spec.job import JobSpec
from pipelines.spec.load import RECIPE_PREFIX, read_document


def split_data(
    job: JobSpec,
    root: Path,
    settings: SplitSettings,
    *,
    sources: Collection[str] = (),
    split_file: str | None = None,
    force: bool = False,
    configs: Sequence[str] = (),
    edit: bool = False,
) -> int:
    """Divide the images of the job's sources, write the split file below `root`, print a summary, and return 0.

    Args:
        job: the document.
        root: folder of the data.
        settings: how images are divided.
        sources: names; default: all.
        split_file: relative to the data root; default: the one that the document names, or else `splits.csv`.
        force: overwrite an existing file.
        configs: the files of the document, for the lines that it needs.
        edit: add these lines to the document.

    Raises:
        ConfigError: a source is unknown, the file exists, or as `divide`.
        DataError: as `divide`.
    """
    if unknown := sorted(set(sources) - set(job.data.sources)):
        known = ", ".join(job.data.sources)
        raise ConfigError(FieldProblem("--source", f"got {unknown[0]!r}; the sources are {known}"))
    chosen = list(sources) or list(job.data.sources)
    named = next((file for name in chosen if (file := job.data.sources[name].split_file)), None)
    split_file = split_file or named or "splits.csv"
    path = below(root, split_file)
    if path.exists() and not (force or settings.keep):
        message = "exists; --keep adds new images to it and changes nothing else, --force replaces it"
        raise ConfigError(FieldProblem(str(path), message))
    division = divide(job, root, chosen, split_file, settings)
    unwritable = [name for name in division.by_path() if not _is_text(name)]
    if unwritable:
        message = f"{len(unwritable)} image names are not valid Unicode, such as {unwritable[0]!a}; rename these files"
        raise ConfigError(FieldProblem(str(root), message))
    try:
        write_atomic(path, split_file_text(division.by_path()))
    except OSError as error:
        message = f"cannot be written ({error.strerror}); the split file must be below the data root"
        raise ConfigError(FieldProblem(str(path), message)) from error
    print(render_division(division), end="")
    print(f"Wrote {path}")
    _report_fields(job, division, split_file, configs, edit=edit)
    return 0


def _report_fields(job: JobSpec, division: Division, split_file: str, configs: Sequence[str], *, edit: bool) -> None:
    """Print the fields that each source needs, or add them to the document."""
    for name, stored in division.stored.items():
        fields = _needed_fields(job, name, stored, split_file)
        if not fields:
            continue
        config = edit and _edit(configs, name, fields)
        if config:
            print(f"Set {' and '.join(fields)} of data.sources.{name} in {config}")
            continue
        where = configs[-1] if configs else "the document"
        print(f"Add to the source {name!r} in {where}{', which cannot be changed in place' if edit else ''}:")
        for field, value in fields.items():
            print(f"    {field}: {inline_yaml(value)}")


def _needed_fields(job: JobSpec, name: str, stored: Sequence[Split], split_file: str) -> dict[str, Any]:
    """Return the fields of a source that the document lacks."""
    source = job.data.sources[name]
    splits = {split: source.splits[split] for split in stored}
    fields: dict[str, Any] = {} if source.split_file == split_file else {"split_file": split_file}
    # A source with a split file and without `splits` has train only.
    if splits != (source.splits if source.split_file or "splits" in source.model_fields_set else {"train": "train"}):
        fields["splits"] = splits
    return fields


def _edit(configs: Sequence[str], source: str, fields: Mapping[str, Any]) -> str | None:
    """Set fields of a source in the last file that has it; return the file, or None if this is not possible."""
    for config in reversed(configs):
        if config.startswith(RECIPE_PREFIX):
            continue
        document = read_document(config)
        if source in (document.get("data") or {}).get("sources", {}):
            path = Path(config)
            text = with_fields(path.read_text("utf-8"), ("data", "sources", source), fields)
            if text is not None:
                write_atomic(path, text)
                return config
    return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
