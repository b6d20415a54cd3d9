"""Parts that a network takes from another one: tensors by name and shape, classes by name."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from heads.catalog import HEADS
from heads.pooling import rows_of
from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.inference.init_from import InitReport, class_axes, initialize_from
from pipelines.inference.saved import SavedModel
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document
from pipelines.spec.model import ModelSpec

Document = dict[str, Any]
Names = Mapping[str, Sequence[str]]

KINDS: dict[str, Document] = {
    **{name: {} for name in HEADS},
    "retinanet": {"num_convs": 1, "levels": ["p3", "p4"]},
    "fcos": {"num_convs": 1, "levels": ["p3", "p4"]},
    "faster_rcnn": {"levels": ["p3", "p4"], "roi_levels": ["p3"], "roi_channels": 8},
    "multiclass": {},
    "multilabel": {},
    "embedding": {"dim": 8},
}
CLASSES = ("a", "b", "c")


def spec_of(small: Document, tasks: Document, **model: Any) -> ModelSpec:
    """Return the model of the small document with other tasks."""
    document = apply_override(apply_override(copy.deepcopy(small), "model.tasks", tasks), "model.select", None)
    for layer in document["data"]["sources"]["shapes"]["labels"]:
        layer["tasks"] = sorted(tasks)
    return validate_document({**document, "model": document["model"] | model}).model


def categories_of(names: Names) -> dict[str, list[Category]]:
    return {task: [Category(number, name) for number, name in enumerate(rows, 1)] for task, rows in names.items()}


def network(spec: ModelSpec, names: Names, seed: int) -> MultiTaskModel:
    """Return a network whose numbers all differ."""
    torch.manual_seed(seed)
    model = build_model(spec, categories_of(names)).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor))
    return model


def saved_of(model: MultiTaskModel, spec: ModelSpec, names: Names | None) -> SavedModel:
    document = spec.model_dump(mode="json")
    return SavedModel(model.state_dict(), None if names is None else categories_of(names), document)


def initialized(
    small: Document, there: Document, here: Document, names_there: Names | None, names_here: Names, **model: Any
) -> tuple[MultiTaskModel, MultiTaskModel, dict[str, Tensor], InitReport]:
    """Return a network, another one that is initialized from it, the state of the latter before, and the report."""
    spec_there, spec_here = spec_of(small, there), spec_of(small, here, **model)
    filled = names_there or dict.fromkeys(there, CLASSES)
    source, target = network(spec_there, filled, 1), network(spec_here, names_here, 2)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    saved = saved_of(source, spec_there, names_there)
    report = initialize_from(target, saved, spec_here, categories_of(names_here), "runs/a")
    return source, target, before, report


def test_network_of_the_same_document_is_taken_completely(small: Document) -> None:
    tasks = {"shapes": {"head": "fcos", "num_convs": 1}, "scene": {"head": "multilabel"}}
    names = {"shapes": CLASSES, "scene": ("x", "y")}
    source, target, _, report = initialized(small, tasks, tasks, names, names)
    state = source.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in target.state_dict().items())
    assert str(report) == (
        f"init_from runs/a: backbone, heads.scene, heads.shapes, neck taken ({len(state)} tensors in all)"
    )
    assert report.warnings == []


@pytest.mark.parametrize("frozen", ["there", "here"])
def test_only_one_of_both_networks_may_have_frozen_norms(frozen: str, small: Document) -> None:
    """Frozen norms lack the number of batches they have seen, which nothing needs."""
    tasks = {"scene": {"head": "multilabel"}}
    spec = spec_of(small, tasks)
    surgery = spec.backbone.surgery.model_copy(update={"freeze_batchnorm": True})
    other = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"surgery": surgery})})
    spec_there, spec_here = (other, spec) if frozen == "there" else (spec, other)
    names = {"scene": ("x", "y")}
    source, target = network(spec_there, names, 1), network(spec_here, names, 2)
    report = initialize_from(target, saved_of(source, spec_there, names), spec_here, categories_of(names), "runs/a")
    assert report.warnings == []
    assert " in part " not in str(report)
    theirs = source.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in target.state_dict().items() if key in theirs)


def test_new_task_keeps_its_weights_and_an_old_one_is_not_used(small: Document) -> None:
    there = {"shapes": {"head": "fcos", "num_convs": 1}, "old": {"head": "multilabel"}}
    here = {"shapes": {"head": "fcos", "num_convs": 1}, "scene": {"head": "multilabel"}}
    source, target, before, report = initialized(
        small, there, here, {"shapes": CLASSES, "old": CLASSES}, {"shapes": CLASSES, "scene": CLASSES}
    )
    theirs = source.state_dict()
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[key] if key.startswith("heads.scene.") else theirs[key]), key
    assert "; new: heads.scene (2 tensors); not used: heads.old" in str(report)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("here", [("c", "a", "b"), ("c", "new", "a"), ("b",), ("z", "c", "b", "a", "y")])
def test_rows_of_known_classes_are_taken_by_name(kind: str, here: tuple[str, ...], small: Document) -> None:
    tasks = {"t": {"head": kind, **KINDS[kind]}}
    source, target, before, _ = initialized(small, tasks, tasks, {"t": CLASSES}, {"t": here})
    own = outputs_by_class(target)
    theirs = outputs_by_class(source)
    fresh = outputs_by_class_of(before, target)
    for row, name in enumerate(here):
        expected = theirs[CLASSES.index(name)] if name in CLASSES else fresh[row]
        torch.testing.assert_close(own[row], expected, rtol=0, atol=1e-5)


def outputs_by_class(model: MultiTaskModel) -> Tensor:
    """Return the output of a head for each class (first dimension) and fixed features, whichever its last layer is."""
    head: Any = model.heads["t"]
    if hasattr(head, "metric_loss"):
        proxies: Tensor = head.metric_loss.proxies
        return proxies.detach()
    generator = torch.Generator().manual_seed(5)
    levels = {**model.backbone.feature_specs, **model.neck.feature_specs}  # type: ignore[dict-item]
    features = {
        level: torch.randn(2, spec.channels, 4, 4, generator=generator)  # type: ignore[union-attr]
        for level, spec in levels.items()
    }
    with torch.no_grad():
        raw = head(features)
        if hasattr(head, "box_head"):
            rows, _ = head.box_head(raw.features, rows_of([torch.tensor([[0.0, 0, 20, 30]])] * 2))
            return rows[:, :-1].movedim(-1, 0)  # type: ignore[no-any-return]
    logits: Tensor = raw.logits if hasattr(raw, "logits") else raw
    return logits.movedim(-1, 0)


def outputs_by_class_of(before: Mapping[str, Tensor], target: MultiTaskModel) -> Tensor:
    """Return the same for a network with its last layers from before and all other tensors as taken."""
    mixed = dict(target.state_dict())
    last = {"class_output", "linear", "metric_loss"}
    mixed |= {key: tensor for key, tensor in before.items() if last.intersection(key.split("."))}
    kept = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    target.load_state_dict(mixed)
    outputs = outputs_by_class(target).clone()
    target.load_state_dict(kept)
    return outputs


def test_every_head_is_tested_above() -> None:
    assert set(KINDS) == set(HEADS)


@pytest.mark.parametrize("kind", ["retinanet", "faster_rcnn", "multiclass", "embedding"])
def test_other_classes_are_new_even_if_the_shapes_fit_by_chance(kind: str, small: Document) -> None:
    tasks = {"t": {"head": kind, **KINDS[kind]}}
    _, target, before, report = initialized(small, tasks, tasks, {"t": CLASSES}, {"t": ("x", "y", "z")})
    depends = {key for key, _ in class_axes(target, spec_of(small, tasks), "t", 3)}
    assert depends
    for key, tensor in target.state_dict().items():
        if key.startswith("heads.") and tensor.is_floating_point():
            assert torch.equal(tensor, before[key]) == (key in depends), key
    assert "heads.t: classes 'x', 'y', 'z' are new, 0 taken by name" in str(report)


def test_unknown_classes_are_taken_where_the_shapes_fit_which_is_reported(small: Document) -> None:
    tasks = {"t": {"head": "multiclass"}}
    source, target, _, report = initialized(small, tasks, tasks, None, {"t": ("x", "y", "z")})
    assert torch.equal(target.state_dict()["heads.t.linear.weight"], source.state_dict()["heads.t.linear.weight"])
    assert "heads.t: its classes there are unknown" in str(report)
    _, _, _, report = initialized(small, tasks, tasks, None, {"t": ("x", "y")})
    assert "heads.t.linear.bias: shape (3,) there, (2,) here" in str(report)


def test_head_of_another_kind_is_new(small: Document) -> None:
    there, here = {"t": {"head": "multiclass"}}, {"t": {"head": "multilabel"}}
    _, target, before, report = initialized(small, there, here, {"t": CLASSES}, {"t": CLASSES})
    assert torch.equal(target.state_dict()["heads.t.linear.weight"], before["heads.t.linear.weight"])
    assert "new: heads.t (2 tensors); heads.t: multiclass there, multilabel here" in str(report)


def test_part_of_another_shape_is_reported(small: Document) -> None:
    tasks = {"t": {"head": "multilabel"}}
    names = {"t": CLASSES}
    source, target, before, report = initialized(small, tasks, tasks, names, names, neck={"channels": 16, "norm": "bn"})
    assert report.taken["neck"] == 0
    assert report.is_whole("backbone")
    key = next(key for key in before if key.startswith("neck.") and key.endswith("weight"))
    assert torch.equal(target.state_dict()[key], before[key])
    there = source.state_dict()[key]
    assert f"{key}: shape {tuple(there.shape)} there, {tuple(before[key].shape)} here" in str(report)
    assert f"and {len(report.shapes) - 5} more shapes" in str(report)


def test_another_backbone_warns_and_keeps_the_normalization(small: Document) -> None:
    tasks = {"t": {"head": "fcos", "num_convs": 1}}
    names = {"t": CLASSES}
    there, here = spec_of(small, tasks), spec_of(small, tasks, backbone={"name": "mobilenetv3_small_050"})
    source, target = network(there, names, 1), network(here, names, 2)
    mean = target.mean.clone()
    report = initialize_from(target, saved_of(source, there, names), here, categories_of(names), "runs/a")
    assert report.taken["backbone"] == 0
    assert report.is_whole("heads.t")
    assert torch.equal(target.mean, mean)
    (warning,) = report.warnings
    assert "no tensor of the backbone is taken from runs/a: it has the backbone resnet14_thin" in warning


def test_network_without_a_fitting_tensor_is_an_error(small: Document) -> None:
    there = spec_of(small, {"old": {"head": "multilabel"}})
    here = spec_of(
        small, {"t": {"head": "multilabel"}}, backbone={"name": "mobilenetv3_small_050"}, neck={"channels": 8}
    )
    source, target = network(there, {"old": CLASSES}, 1), network(here, {"t": CLASSES}, 2)
    with pytest.raises(ConfigError, match=r"model\.init_from: no tensor of runs/a fits: .* tasks old; this document"):
        initialize_from(
            target, saved_of(source, there, {"old": CLASSES}), here, categories_of({"t": CLASSES}), "runs/a"
        )


def test_frozen_part_that_keeps_random_values_warns(small: Document) -> None:
    tasks = {"t": {"head": "multilabel"}}
    names = {"t": CLASSES}
    frozen = {"neck": {"channels": 16, "norm": "bn"}, "transfer": "freeze", "lr_scale": {"stages": {"neck": 0}}}
    *_, report = initialized(small, tasks, tasks, names, names, **frozen)
    (warning,) = report.warnings
    assert warning.startswith("model.init_from: neck is frozen and takes ")


def test_finding_the_classes_draws_no_random_number(tiny_job: JobSpec, tiny_model: MultiTaskModel) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    axes = {task: dict(class_axes(tiny_model, tiny_job.model, task, 3)) for task in tiny_job.model.tasks}
    assert torch.equal(torch.rand(3), expected)
    assert {task: sorted(key.removeprefix(f"heads.{task}.") for key in found) for task, found in axes.items()} == {
        "cells": ["class_output.bias", "class_output.weight"],
        "kind": ["linear.bias", "linear.weight"],
        "signs": ["linear.bias", "linear.weight"],
        "lookup": ["metric_loss.proxies"],
        "scene": ["metric_loss.proxies"],
    }
