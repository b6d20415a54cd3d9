"""Read a network from a checkpoint or an exported model, without running any code in the file.

best.ckpt   the network that scored best on val, see `pipelines.training.scoring.BestCheckpoint`
last.ckpt   Lightning's: the module with everything that training needs to resume
model/      see `pipelines.inference.export`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backbones.spec.surgery import SurgerySpec
from backbones.weights import is_expanded, load_plain
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.inference.export import Categories, read_description
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.spec.load import read_yaml

RAW_KEY = "current_model_state"
"""Key of the trained weights in checkpoints of Lightning's WeightAveraging; its `state_dict` has the averaged ones."""
LIGHTNING_KEY = "pytorch-lightning_version"


@dataclass(frozen=True)
class SavedModel:
    """Weights of a network, with the known facts about it.

    Attributes:
        state: under the names of `MultiTaskModel`.
        categories: by task, in the order of the labels; None where unknown.
        model: the known part of the document's `model`, as plain types.
    """

    state: Mapping[str, Tensor]
    categories: Categories | None
    model: Mapping[str, Any]

    @property
    def backbone(self) -> str | None:
        """Name of the backbone; None where unknown."""
        return _at(self.model, "backbone", "name")

    def head(self, task: str) -> str | None:
        """Return the name of a task's head; None where unknown."""
        return _at(self.model, "tasks", task, "head")


def _at(node: Any, *keys: str) -> str | None:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, str) else None


def read_saved(path: Path, field: str) -> SavedModel:
    """Return the network of a checkpoint (of last.ckpt the averaged one, if it has one) or of an exported model.

    Raises:
        ConfigError: it has no network; `field` is the document's field that names it.
    """
    return _read_exported(path, field) if path.is_dir() else _read_checkpoint(path, field)


def read_checkpoint(path: Path, field: str) -> dict[str, Any]:
    """Return the content of a checkpoint, plain types and tensors; raises ConfigError for any other file."""
    try:
        content = load_plain(path)
    except ValueError as error:
        raise _unusable(path, field, str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise _unusable(path, field, "it has no state_dict")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content["state_dict"].items()):
        raise _unusable(path, field, "its state_dict holds more than tensors by name")
    if expanded := sorted(name for name, tensor in content["state_dict"].items() if is_expanded(tensor)):
        raise _unusable(path, field, f"{expanded[0]} has more elements than are stored, as after expand()")
    return content


def has_average(content: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint has averaged weights beside the trained ones."""
    return RAW_KEY in content


def network_state(content: Mapping[str, Any], *, raw: bool = False) -> dict[str, Tensor]:
    """Return the network of a checkpoint: the averaged one if it has one, or with `raw` the trained one."""
    state = content[RAW_KEY] if raw and has_average(content) else content["state_dict"]
    if LIGHTNING_KEY not in content:
        return dict(state)
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


def _read_checkpoint(path: Path, field: str) -> SavedModel:
    content = read_checkpoint(path, field)
    state = network_state(content)
    if not any(name.startswith("backbone.") for name in state):
        raise _unusable(path, field, "its tensors do not have the names of this project's networks")
    run_dir = RunDir.of_checkpoint(path)
    if LIGHTNING_KEY in content and run_dir and run_dir.best_checkpoint.is_file():
        content = read_checkpoint(run_dir.best_checkpoint, field)
    document: Any = {}
    if run_dir and run_dir.config_yaml.is_file():
        document = read_yaml(run_dir.config_yaml.read_text("utf-8"), str(run_dir.config_yaml))
    try:
        categories = {
            task: [Category(number, name) for number, name in pairs]
            for task, pairs in content.get("categories", {}).items()
        }
        return SavedModel(state, categories or None, document.get("model", {}))
    except (AttributeError, TypeError, ValueError) as error:
        raise _unusable(path, field, f"its categories or its document cannot be read ({error})") from error


def _read_exported(folder: Path, field: str) -> SavedModel:
    described = read_description(ExportedModelDir(folder))
    try:
        state = load_file(ExportedModelDir(folder).weights)
        categories = {
            task: [Category(row["id"], row["name"]) for row in rows] for task, rows in described["categories"].items()
        }
        model = described["job"]["model"]
        surgery = SurgerySpec.with_current_names(model["backbone"].get("surgery", {}))
        is_folded = surgery.get("reparameterize", False)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise _unusable(folder, field, f"{type(error).__name__}: {error}") from error
    if is_folded:
        raise ConfigError(
            FieldProblem(
                field,
                f"{folder} holds a network whose branches are folded (surgery.reparameterize) and which cannot be "
                "trained further; name checkpoints/best.ckpt of its run",
            )
        )
    return SavedModel(state, categories, model)


def _unusable(path: Path, field: str, reason: str) -> ConfigError:
    return ConfigError(
        FieldProblem(
            field,
            f"{path} does not hold a network of this project: {reason}; name a run folder, its best.ckpt or last.ckpt, "
            "an exported model, or the state dict of torchvision's retinanet_resnet50_fpn or fcos_resnet50_fpn "
            "(weights of a backbone alone go to model.backbone.weights)",
        )
    )
