"""Short documents, which leave the settings of a job to a recipe. Torch-free.

A short document is a mapping with the key `recipe` and any parts of a document, which take precedence over what the
recipe chooses. `budget` at the top stands for `trainer.budget`. The API uses this module, so it imports nothing that
reads images.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.base.clock import parse_duration
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.data.drafting.source_document import SOURCE, complete_sources, document_of_sources
from pipelines.spec.load import RECIPE, Document, apply_override, merge

FINETUNE = "finetune"
SECTIONS = ("name", "seed_everything", "trainer", "model", "data")
"""The order of the sections in a complete document."""


def parts_of(short: Mapping[str, Any]) -> Document:
    """Return the parts of a document that a short one gives, with `trainer.budget` instead of `budget`.

    Raises:
        ConfigError: the recipe is unknown, or the budget is missing or invalid.
    """
    if short[RECIPE] != FINETUNE:
        raise ConfigError(FieldProblem(RECIPE, f"got {short[RECIPE]!r}; the recipe that chooses is {FINETUNE!r}"))
    given = {key: value for key, value in short.items() if key not in (RECIPE, "budget")}
    if "budget" in short:
        given = apply_override(given, "trainer.budget", short["budget"])
    budget_of(given)
    return given


def stand_in(short: Mapping[str, Any]) -> Document:
    """Return a complete document with the given parts, and stand-ins for what will be chosen when the job starts.

    It shows problems of the given parts before the data is read.

    Raises:
        ConfigError: as `parts_of`, or the sources are invalid.
    """
    given = parts_of(short)
    data = section(given, "data")
    recognized = {"images": "images", "labels": [{"format": "coco", "path": "labels.json", "tasks": ["objects"]}]}
    base = document_of_sources(complete_sources(section(data, "sources")) or {SOURCE: recognized})
    if network_of(section(given, "model")):
        del base["model"]["backbone"]
    del base["data"]["root"]
    return ordered(merge({**base, "name": name_of(data)}, given))


def section(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a mapping of a document; an empty one if it is missing or invalid, which the validation reports."""
    found = node.get(name)
    return found if isinstance(found, Mapping) else {}


def network_of(model: Mapping[str, Any]) -> str | None:
    """Return the name of the backbone that is given, or `design`; None if it is to be chosen."""
    backbone = section(model, "backbone")
    return str(backbone["name"]) if "name" in backbone else "design" if "design" in backbone else None


def budget_of(given: Mapping[str, Any]) -> float:
    """Return the seconds of `trainer.budget`; raises ConfigError if it is missing or invalid."""
    budget = section(given, "trainer").get("budget")
    if budget is None:
        message = f"is missing; recipe:{FINETUNE} chooses settings for a wall time, such as 8m"
        raise ConfigError(FieldProblem("trainer.budget", message))
    try:
        return parse_duration(str(budget))
    except ValueError as error:
        raise ConfigError(FieldProblem("trainer.budget", str(error))) from error


def name_of(data: Mapping[str, Any]) -> str:
    """Return the name of a job: that of the data set of the service, or of the folder."""
    named = str(data.get("dataset") or "").partition("@")[0] or str(data.get("root", FINETUNE))
    return job_name(Path(named))


def job_name(folder: Path) -> str:
    """Return a folder's name as the name of a job."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).lstrip("_.-")[:64]
    return name or "job"


def ordered(document: Document) -> Document:
    """Return the document with its sections in their usual order."""
    return {key: document[key] for key in dict.fromkeys([*SECTIONS, *document]) if key in document}
