"""One real training step with every row of the catalog: detection, classification and embedding, partial labels.

By default the lightest row of each family is tested, if it needs at most 2 GMACs for an image of 224x224 pixels; all
other rows are tested by `make test-slow`. 96 pixels are close to the smallest size that all networks accept (75 for
Inception v3); at this size the largest networks (NASNet-A large, EfficientNet-B7) need 2 GiB and 3 CPU seconds.
"""

import math

import pytest
import torch
from torch import Tensor

from backbones.base import LEVELS
from heads.base import BoxTarget, ClassTarget, IdentityTarget, Target
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import global_losses
from tests.backbones.sizes import rows_by_speed

SIDE_PX = 96
TASKS = {
    "cells": {"head": "fcos", "num_convs": 1, "levels": ["p3", "p4", "p5"]},
    "looks": {"head": "embedding", "of": "image", "dim": 8, "loss": "proxy_anchor"},
    "signs": {"head": "multilabel"},
}


def _model(name: str) -> MultiTaskModel:
    torch.manual_seed(0)
    backbone = {"name": name, "weights": "none"}
    spec = ModelSpec.model_validate({"backbone": backbone, "neck": {"channels": 32}, "tasks": TASKS})
    return build_model(spec, {task: [Category(k, str(k)) for k in range(3)] for task in TASKS})


def _batch() -> tuple[Tensor, dict[str, list[Target | None]], list[tuple[int, int]]]:
    """Return two images; the first is not labeled with classes, the second not with boxes."""
    images = torch.randint(0, 256, (2, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8)
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [20.0, 30.0, 90.0, 90.0]])
    found = BoxTarget(boxes, torch.tensor([0, 2]), torch.zeros(2, dtype=torch.bool), torch.tensor([-1, -1]))
    targets: dict[str, list[Target | None]] = {
        "cells": [found, None],
        "looks": [IdentityTarget(torch.tensor(0)), IdentityTarget(torch.tensor(2))],
        "signs": [None, ClassTarget(torch.tensor([1.0, 0.0, 1.0]))],
    }
    return images, targets, [(SIDE_PX, SIDE_PX)] * 2


@pytest.mark.parametrize("name", rows_by_speed(2, pytest.mark.timeout(600)))
def test_every_parameter_gets_a_gradient_and_every_part_changes(name: str) -> None:
    model = _model(name).train()
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = global_losses(model.loss(*_batch()))
    total = torch.stack(list(losses.tasks.values())).sum()
    total.backward()
    assert losses.is_active.all()
    assert math.isfinite(total.item())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    optimizer.step()
    moved = {
        model.part_of(key) for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])
    }
    assert moved == {model.part_of(key) for key in before}
    assert moved >= {"neck", "heads.cells", "heads.looks", "heads.signs", LEVELS[0]}
