"""Every list and mapping of the document: whether it may be empty was decided for each, and is checked at once."""

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from pipelines.base.errors import ConfigError
from pipelines.formats.catalog import FORMATS
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]

DESIGN = {"preset": "resnet50"}

REFUSED: dict[str, dict[str, Any]] = {
    "TrainerSpec.devices": {"trainer.devices": []},
    **{
        f"DesignSpec.{name}": {"model.backbone": {"weights": "none", "design": {**DESIGN, name: []}}}
        for name in ("depths", "widths", "strides", "kernel", "ratio")
    },
    **{
        f"DesignAttention.{name}": {
            "model.backbone": {"weights": "none", "design": {**DESIGN, "attention": {"kind": "se", name: []}}}
        }
        for name in ("stages", "ratio")
    },
    "AttentionSpec.stages": {"model.backbone.surgery": {"attention": [{"kind": "se", "stages": []}]}},
    "ModelSpec.tasks": {"model.tasks": {}},
    "RetinaNetSpec.levels": {"model.tasks.shapes": {"head": "retinanet", "levels": []}},
    "RetinaNetSpec.aspect_ratios": {"model.tasks.shapes": {"head": "retinanet", "aspect_ratios": []}},
    "RetinaNetSpec.anchor_sizes": {"model.tasks.shapes": {"head": "retinanet", "anchor_sizes": []}},
    "FCOSSpec.levels": {"model.tasks.shapes.levels": []},
    **{
        f"FasterRCNNSpec.{name}": {"model.tasks.shapes": {"head": "faster_rcnn", name: []}}
        for name in ("levels", "aspect_ratios", "anchor_sizes", "roi_levels")
    },
    "ModelSpec.unfreeze": {"model.unfreeze": {}},
    "ModelSpec.unfreeze_order": {"model.unfreeze_order": []},
    "DataSpec.sources": {"data.sources": {}},
    "SourceSpec.labels": {"data.sources.shapes.labels": []},
    "SourceSpec.splits": {"data.sources.shapes.splits": {}},
    "SlicesSpec.columns": {"evaluation.slices": {"path": "images.csv", "columns": []}},
}
"""Field -> values of a document in which it is empty, and which are therefore refused."""

ALLOWED = {
    "DesignSpec.deformable": "no deformable stages",
    "SurgerySpec.attention": "no attention",
    "SurgerySpec.deformable": "no deformable stages",
    "MulticlassSpec.class_weights": "all classes have weight 1",
    "MultilabelSpec.class_weights": "all classes have weight 1",
    "RateScaleSpec.stages": "all factors are 1",
    "RateScaleSpec.tasks": "all factors are 1",
    "DataSpec.augment": "no augmentation",
}
"""Fields that may be empty, and what this means."""


def sections(annotation: Any, owner: str, seen: set[type]) -> Iterator[str]:
    """Yield the names of all lists and mappings of variable length, as Section.field."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from sections(arguments[0], owner, seen)
    elif isinstance(annotation, type) and origin is None and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            for name, field in annotation.model_fields.items():
                yield from sections(field.annotation, f"{annotation.__name__}.{name}", seen)
    else:
        is_fixed = origin is tuple and Ellipsis not in arguments
        if origin in (tuple, list, set, dict, frozenset, Mapping, Sequence) and not is_fixed:
            yield owner
        if origin in (tuple, list, set, dict, frozenset, Mapping, Sequence, Union, UnionType):
            for argument in arguments:
                yield from sections(argument, owner, seen)


def test_every_list_and_mapping_of_the_document_is_listed_here() -> None:
    layers = {layer.__name__ for layer in FORMATS}
    found = {name for name in sections(JobSpec, "", set()) if name.split(".")[0] not in layers}
    assert found == REFUSED.keys() | ALLOWED.keys()


@pytest.mark.parametrize("field", REFUSED)
def test_empty_value_is_refused_with_its_field(field: str, small: Document) -> None:
    document = small
    for name, value in REFUSED[field].items():
        document = apply_override(document, name, value)
    with pytest.raises(ConfigError) as caught:
        validate_document(document)
    name = field.split(".")[1]
    assert any(name in problem.field.split(".")[-1] for problem in caught.value.problems), caught.value


def test_layers_need_tasks(small: Document) -> None:
    for layer in small["data"]["sources"]["shapes"]["labels"]:
        document = apply_override(small, "data.sources.shapes.labels", [{**layer, "tasks": []}])
        with pytest.raises(ConfigError, match=r"labels.0.tasks"):
            validate_document(document)


@pytest.mark.parametrize("others", [True, False])
def test_document_whose_tasks_all_have_weight_0_is_refused(others: bool, small: Document) -> None:
    document = apply_override(small, "model.tasks.shapes.weight", 0)
    if others:
        for name in ("scene", "identity"):
            document = apply_override(document, f"model.tasks.{name}.weight", 0)
    else:
        document = apply_override(document, "model.tasks", {"shapes": document["model"]["tasks"]["shapes"]})
    with pytest.raises(ConfigError, match=r"model.tasks.\w+.weight: got 0, and .*nothing would be learned; write"):
        validate_document(document)
