"""Networks read from checkpoints and exported models; no code in a file is run."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.base.errors import ConfigError
from pipelines.inference.export import load_exported
from pipelines.inference.saved import read_saved
from pipelines.run_folder.layout import RunDir


def test_last_checkpoint_has_averaged_weights_and_takes_its_classes_from_the_best_one(finished: RunDir) -> None:
    saved = read_saved(finished.last_checkpoint, "model.init_from")
    content = torch.load(finished.last_checkpoint, weights_only=True)
    assert saved.state.keys() == read_saved(finished.best_checkpoint, "").state.keys()
    key = "heads.shapes.class_output.bias"
    assert torch.equal(saved.state[key], content["state_dict"][f"model.{key}"])
    assert not torch.equal(saved.state[key], content["current_model_state"][f"model.{key}"])
    assert saved.categories is not None
    assert saved.categories == read_saved(finished.best_checkpoint, "").categories
    assert (saved.backbone, saved.head("shapes")) == ("resnet14_thin", "fcos")


def test_checkpoint_outside_its_run_has_no_document_and_the_last_one_no_classes(
    finished: RunDir, tmp_path: Path
) -> None:
    for checkpoint in (finished.best_checkpoint, finished.last_checkpoint):
        shutil.copy(checkpoint, tmp_path)
    best, last = (read_saved(tmp_path / name, "") for name in ("best.ckpt", "last.ckpt"))
    assert (best.backbone, best.head("shapes")) == (None, None)
    assert best.categories is not None
    assert last.categories is None


def test_exported_model_has_the_weights_and_classes_of_its_network(finished: RunDir) -> None:
    saved, (model, job, categories) = read_saved(finished.model, ""), load_exported(finished.model)
    assert saved.categories == categories
    assert saved.backbone == job.model.backbone.name
    state = model.state_dict()
    assert state.keys() == saved.state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in saved.state.items())


class Trap:
    """Runs code if a reader unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "model.init_from: .* does not hold a network of this project: not a file of torch.save;"),
        (b"name,kind\n", "does not hold a network of this project: not a file of torch.save;"),
        (b"a,b\n", "does not hold a network of this project: not a file of torch.save;"),
        (b"G", "does not hold a network of this project: not a file of torch.save;"),
        (b"", "does not hold a network of this project: not a file of torch.save;"),
        (b"PK\x03\x04 and no more", "does not hold a network of this project: damaged or truncated;"),
        ({"state_dict": {"conv1.weight": torch.ones(1)}}, "its tensors do not have the names .*; .*backbone.weights"),
        ({"conv1.weight": torch.ones(1)}, "it has no state_dict"),
        ({"state_dict": {"backbone.a": torch.ones(1)}, "categories": [1]}, "its categories or its document cannot"),
        ({"state_dict": {"backbone.a": 1}}, "its state_dict holds more than tensors by name"),
        ({"state_dict": {1: torch.ones(1)}}, "its state_dict holds more than tensors by name"),
        ({"state_dict": Trap()}, "does not hold a network of this project: more than plain types and tensors;"),
    ],
)
def test_file_that_is_not_a_checkpoint_is_rejected(
    content: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=reason):
        read_saved(path, "model.init_from")
    assert not (tmp_path / "trapped").exists()
