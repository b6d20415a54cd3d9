"""`recipe:finetune`: the complete document for a short one that names data and a budget. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.data.drafting.choices import SPLIT_FILE, DataFacts, facts_of, minimal_document
from pipelines.data.drafting.finetune_rules import EVERY_SOURCE, TASK, Choice, choose_all
from pipelines.data.drafting.machine import Machine
from pipelines.data.drafting.readings import choose, find_readings
from pipelines.data.drafting.short_document import FINETUNE, budget_of, name_of, network_of, ordered, parts_of, section
from pipelines.data.drafting.source_document import complete_sources, document_of_sources
from pipelines.spec.load import Document, merge


@dataclass(frozen=True)
class ChosenDocument:
    """The complete document, and a text with a line for each choice and its reason."""

    document: Document
    explanation: str


def choose_document(short: Mapping[str, Any], folder: Path, machine: Machine) -> ChosenDocument:
    """Return the complete document for the data in a folder.

    Args:
        short: the short document, with `data.root`.
        folder: the data, which is read completely.
        machine: where the run is started.

    Raises:
        ConfigError: as `parts_of`, or no pretrained weights are at hand.
        DataError: no format is recognized, or the data lacks labels or a split that training needs.
    """
    given = parts_of(short)
    data = section(given, "data")
    if sources := complete_sources(section(data, "sources")):
        base, about = document_of_sources(sources), "data.sources as given"
    else:
        base, about = _recognized(folder)
        base = merge(base, {"data": {"sources": section(data, "sources")}})
    task = _only_task(base)
    facts = facts_of(base, folder)
    _require_training_data(facts, folder)
    model = section(given, "model")
    head: str | None = section(section(model, "tasks"), task).get("head")
    choices = choose_all(
        facts,
        machine,
        budget_of(given),
        head=head,
        network=network_of(model),
        longer_px=_longer_px(data),
        batch_size=next(
            (source["batch_size"] for source in base["data"]["sources"].values() if "batch_size" in source), None
        ),
    )
    document: Document = {
        "name": name_of(data),
        "trainer": {},
        "model": {},
        "data": {"root": data["root"], "sources": _sources(base, facts)},
    }
    lines = [f"{about}: {', '.join(f'{count} {split}' for split, count in facts.num_images.items())} images"]
    for choice in choices:
        shown = []
        for keys, value in _leaves(choice, document, task):
            document = _with(document, keys, value)
            if not _is_given(given, keys):
                shown.append(f"{'.'.join(keys)}: {_text(value)}")
        lines += [f"{', '.join(shown)} ({choice.reason})"] if shown else []
    return ChosenDocument(ordered(merge(document, given)), "\n".join(lines))


def _longer_px(data: Mapping[str, Any]) -> int | None:
    """Return the longer side of `data.image_size`, if it is given."""
    size = data.get("image_size")
    return max(map(int, size)) if isinstance(size, list | tuple) else size if isinstance(size, int) else None


def _recognized(folder: Path) -> tuple[Document, str]:
    """Return a document that reads a folder, and how it was recognized."""
    reading = choose(find_readings(folder), None)
    if reading.new_files:
        names = ", ".join(sorted(reading.new_files))
        raise DataError(
            FieldProblem(names, f"is missing, and the format {reading.format} needs it; `pyramidion init` writes it")
        )
    split_file = SPLIT_FILE if (folder / SPLIT_FILE).is_file() else None
    return minimal_document(reading, split_file), f"format {reading.format}: {reading.reason}"


def _only_task(document: Document) -> str:
    tasks = sorted(document["model"]["tasks"])
    if len(tasks) != 1:
        raise ConfigError(
            FieldProblem(
                "data.sources",
                f"have labels of the tasks {', '.join(tasks)}, and recipe:{FINETUNE} chooses settings for one task; "
                "remove the other label layers, or write a complete document",
            )
        )
    return str(tasks[0])


def _require_training_data(facts: DataFacts, folder: Path) -> None:
    for split in ("train", "val"):
        if not facts.num_images.get(split):
            raise DataError(
                FieldProblem(
                    str(folder),
                    f"has no {split} split, which training needs; `pyramidion init --split {folder}` divides the "
                    f"images into {SPLIT_FILE}, which this recipe reads",
                )
            )
    if not facts.num_labels:
        raise DataError(FieldProblem(str(folder), "has no labels; add at least one box or class"))


def _sources(base: Document, facts: DataFacts) -> Document:
    sources = base["data"]["sources"]
    return {name: {**source, "exif": "apply"} for name, source in sources.items()} if facts.is_rotated else sources


def _leaves(choice: Choice, document: Document, task: str) -> Iterator[tuple[list[str], Any]]:
    """Yield the keys that lead to each field of a choice, with its value."""
    for name, value in choice.fields.items():
        keys = [task if key == TASK else key for key in name.split(".")]
        for source in document["data"]["sources"] if EVERY_SOURCE in keys else [""]:
            yield [source if key == EVERY_SOURCE else key for key in keys], value


def _is_given(node: Any, keys: Sequence[str]) -> bool:
    """Return whether a document has a value at these keys, or instead of one of the mappings that lead to it."""
    for key in keys:
        if not isinstance(node, Mapping):
            return True
        if key not in node:
            return False
        node = node[key]
    return True


def _with(node: Document, keys: Sequence[str], value: Any) -> Document:
    first, *rest = keys
    return {**node, first: _with(node.get(first, {}), rest, value) if rest else value}


def _text(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
