"""A trained model as a folder: weights as safetensors, everything else as JSON; nothing is pickled.

    model.safetensors   the state dict, folded if the network is folded for evaluation
    model.json          the resolved document, the categories and best thresholds by task, versions

`model.json` is written last: a folder that contains it is complete.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model, fold_as_configured
from pipelines.run_folder.files import rename_synced, write_atomic
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.spec.job import JobSpec
from pipelines.spec.model_description import FORMAT, ModelDescription, of_known_format
from pipelines.tasks.base import BestThresholds

Categories = dict[str, list[Category]]


def export_model(
    model: MultiTaskModel,
    job: JobSpec,
    categories: Mapping[str, Sequence[Category]],
    folder: Path,
    best_thresholds: Mapping[str, BestThresholds] | None = None,
) -> None:
    """Write `model` to `folder` atomically; an earlier export there is replaced.

    Args:
        model: the evaluated network, on any device; it is not changed.
        job: the resolved document.
        categories: by task, the classes (identities of an embedding) in the order of the labels.
        folder: created if it does not exist.
        best_thresholds: by task; None: unknown.

    Raises:
        ValueError: the document asks for a folded network, and `model` is not folded.
    """
    if job.model.backbone.surgery.reparameterize and not model.is_folded:
        raise ValueError(
            "model: its document asks for a folded network, and this one still has its branches; call its fold() first"
        )
    target = ExportedModelDir(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target.description.unlink(missing_ok=True)
    partial = target.weights.with_name(f"{target.weights.name}.partial")
    save_model(model, str(partial))
    partial.chmod(0o644)
    rename_synced(partial, target.weights)
    described = {
        "format": FORMAT,
        "pyramidion": own_version(),
        "torch": torch.__version__,
        "job": job.model_dump(mode="json"),
        "categories": {
            task: [{"id": category.id, "name": category.name} for category in classes]
            for task, classes in sorted(categories.items())
        },
        "best_thresholds": {task: dict(best) for task, best in sorted((best_thresholds or {}).items())},
        "temperatures": dict(sorted(model.temperatures.items())),
    }
    write_atomic(target.description, json.dumps(described, indent=1, ensure_ascii=False))


def load_exported(folder: Path) -> tuple[MultiTaskModel, JobSpec, Categories]:
    """Return the model (on the CPU, in eval mode), its document and its categories, without access to the internet.

    Raises:
        ConfigError: the folder has no complete export, one of another format, or weights of another model.
    """
    description = read_model_description(folder)
    job, categories = description.job, {task: list(rows) for task, rows in description.categories.items()}
    try:
        model = build_model(job.model, categories)
        fold_as_configured(model, job.model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _unusable(folder, f"{type(error).__name__}: {error}") from error
    try:
        load_model(model, str(ExportedModelDir(folder).weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _unusable(folder, str(error)) from error
    model.temperatures = dict(description.temperatures)
    return model.eval(), job, categories


def read_best_thresholds(folder: Path) -> dict[str, BestThresholds]:
    """Return the best thresholds of an exported model by task; those of earlier versions have none.

    Raises:
        ConfigError: the folder has no complete export, or the thresholds are not of this format.
    """
    return dict(read_model_description(folder).best_thresholds)


def read_description(exported: ExportedModelDir) -> dict[str, Any]:
    """Return the content of an export's `model.json`; raises ConfigError if it is unreadable or of another format."""
    try:
        described = json.loads(exported.description.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(exported.path, f"{exported.description.name} cannot be read ({error})") from None
    try:
        return of_known_format(described)
    except ValueError as error:
        raise _unusable(exported.path, f"{exported.description.name}: {error}") from None


def read_model_description(folder: Path) -> ModelDescription:
    """Return an exported model without its weights; raises ConfigError if the folder has no complete export."""
    exported = ExportedModelDir(folder)
    try:
        return ModelDescription.parse(read_description(exported))
    except ValueError as error:
        raise _unusable(folder, f"{exported.description.name}: {error}") from error


def _unusable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        FieldProblem(str(folder), f"is not an exported model: {reason}; export it again with this version")
    )


def own_version() -> str:
    """Return the version of this project."""
    try:
        return metadata.version("pyramidion")
    except metadata.PackageNotFoundError:
        # Inside a registered model the packages are on the path without being installed.
        return "unknown"
