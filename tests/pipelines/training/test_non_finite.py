"""A batch with a non-finite loss is kept in a file; test_two_ranks.py tests this on two ranks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.base.errors import NumericsError
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.sample import Batch, ImageInfo
from pipelines.model import build_model
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import validate_document
from pipelines.training.non_finite import Position, non_finite_loss

Document = dict[str, Any]
TYPES: dict[str, type[BoxTarget] | type[ClassTarget]] = {"BoxTarget": BoxTarget, "ClassTarget": ClassTarget}


class BreakDetector(Callback):
    """Makes the detector's centerness NaN before a batch, and records the weights used for that batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            with torch.no_grad():
                pl_module.model.heads["shapes"].centerness_output.weight.fill_(math.nan)
            self.weights = {name: tensor.clone() for name, tensor in pl_module.model.state_dict().items()}


def target_of(plain: dict[str, Any] | None) -> Target | None:
    return None if plain is None else TYPES[plain["type"]](**{k: v for k, v in plain.items() if k != "type"})


def test_kept_batch_reproduces_its_terms(
    small: Document, train: Callable[..., RunDir], demo_root: Path, tmp_path: Path
) -> None:
    broken = BreakDetector(3)
    message = "the loss shapes/centerness is nan in epoch 1, step 1, for the images "
    with pytest.raises(NumericsError, match=message) as caught:
        train(small, tmp_path, broken)
    (path,) = (tmp_path / "non_finite").iterdir()
    assert path.name == "epoch0_step1_rank0.pt"
    kept = torch.load(path, weights_only=True)
    names = [info["file_name"] for info in kept["infos"]]
    assert f"{', '.join(names)} (kept in {path}); lower model.optimizer.lr" in str(caught.value)
    assert len(names) == len(kept["images"]) == 4
    assert kept["images"].dtype == torch.uint8
    assert (kept["epoch"], kept["step"], kept["batch"], kept["rank"]) == (0, 1, 3, 0)

    job = validate_document(small)
    model = build_model(job.model, build_index(job, demo_root)[0].categories)
    model.load_state_dict(broken.weights)
    torch.manual_seed(kept["seed"])
    targets = {task: [target_of(plain) for plain in of_task] for task, of_task in kept["targets"].items()}
    sizes_hw = [info["size_hw"] for info in kept["infos"]]
    reproduced = {
        f"{task}/{term}": total.item() / max(count.item(), 1.0)
        for task, terms in model.loss(kept["images"], targets, sizes_hw).items()
        for term, (total, count) in terms.items()
    }
    assert len(reproduced) == 5
    # Dropout affects the scene's term, which the seed alone reproduces.
    assert kept["terms"] == pytest.approx(reproduced, rel=1e-6, nan_ok=True)


def a_batch(num_images: int) -> Batch:
    infos = [ImageInfo(i, f"{i}.jpg", "a", (32, 32), (32, 32), (1.0, 1.0)) for i in range(num_images)]
    images = torch.zeros(num_images, 3, 32, 32, dtype=torch.uint8)
    return Batch(images, infos, {"kind": [None] * num_images})


TERMS = {"kind/ce": torch.tensor(math.inf), "cells/box": torch.tensor(1.0)}


def test_only_the_first_batch_of_a_run_is_kept_and_later_ones_are_only_reported(tmp_path: Path) -> None:
    first = non_finite_loss(a_batch(10), TERMS, Position(0, 3, 7, 0, 1), tmp_path / "kept")
    later = non_finite_loss(a_batch(2), TERMS, Position(1, 9, 2, 0, 1), tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["epoch0_step3_rank0.pt"]
    assert "kind/ce is inf in epoch 1, step 3, for the images 0.jpg, 1.jpg" in str(first)
    assert "7.jpg and 2 more (kept in " in str(first)
    assert "for the images 0.jpg, 1.jpg; lower" in str(later)
    assert "cells/box" not in str(first)


def test_unwritable_folder_does_not_hide_the_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    error = non_finite_loss(a_batch(1), TERMS, Position(0, 0, 0, 0, 1), tmp_path / "taken")
    assert "kind/ce is inf" in str(error)
    assert "kept in" not in str(error)
