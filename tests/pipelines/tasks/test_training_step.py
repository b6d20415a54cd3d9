"""One real training step with every head of every kind of task."""

import torch

from pipelines.model import build_model
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import global_losses
from tests.pipelines.tasks.conftest import CATEGORIES, HalvedImage, TaskCase


def test_step_changes_the_head_and_the_layers_before_it(task_case: TaskCase) -> None:
    tasks = {"task": task_case.spec.model_dump()}
    if task_case.kind.takes_boxes(task_case.spec):
        tasks["cells"] = {"head": "fcos", "num_convs": 1}
    backbone = {"name": "resnet14_thin", "weights": "none"}
    spec = ModelSpec.model_validate({"backbone": backbone, "neck": {"channels": 16}, "tasks": tasks})
    torch.manual_seed(0)
    model = build_model(spec, dict.fromkeys(tasks, CATEGORIES)).train()
    size_hw = HalvedImage().original_hw
    images = torch.randint(0, 256, (2, 3, *size_hw), dtype=torch.uint8)
    targets = {task: [None, None] for task in tasks}
    targets["task"] = [task_case.runtime.encode(task_case.setup, record) for record in task_case.records[:2]]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = torch.stack(list(global_losses(model.loss(images, targets, [size_hw] * 2)).tasks.values())).sum()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    optimizer.step()
    changed = {model.part_of(name) for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {"heads.task", "c3"} <= changed
