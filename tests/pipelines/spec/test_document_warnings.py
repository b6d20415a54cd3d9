"""What is allowed and hardly meant is told, by the field that would change it."""

from typing import Any

import pytest

from pipelines.spec.document_warnings import document_warnings
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]


def job_of(document: Document, **values: Any) -> JobSpec:
    document = apply_override(document, "trainer.max_epochs", 20)
    for name, value in values.items():
        document = apply_override(document, f"model.{name}", value)
    return validate_document(document)


HEAD_AND_NECK = {"stages": {"c3": 0, "neck": 0}, "tasks": {"scene": 0}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"transfer": "freeze"}, ["model.unfreeze: c3, c4, c5 of the backbone never train"]),
        ({"unfreeze": {0: "none", 2: ["c4"], 3: ["c5"]}}, ["model.unfreeze: c3 of the backbone never train"]),
        ({"transfer": "gradual"}, []),
        ({"transfer": "freeze", "init_from": "runs/a"}, []),
        ({"transfer": "freeze", "backbone.weights": "default"}, []),
        ({"lr_scale": HEAD_AND_NECK}, ["model.lr_scale: with a factor of 0 c3, heads.scene, neck never train"]),
        (
            {"lr_scale": HEAD_AND_NECK, "transfer": "freeze"},
            [
                "model.unfreeze: c4, c5 of the backbone never train",
                "model.lr_scale: with a factor of 0 c3, heads.scene, neck never train",
            ],
        ),
        (
            {"lr_scale": HEAD_AND_NECK, "backbone.weights": "default"},
            ["model.lr_scale: with a factor of 0 heads.scene, neck never train"],
        ),
        ({"lr_scale": HEAD_AND_NECK, "init_from": "runs/a"}, []),
    ],
)
def test_random_parts_that_never_train_are_doubted(values: dict[str, Any], told: list[str], small: Document) -> None:
    doubted = list(document_warnings(job_of(small, **values)))
    assert [text.partition(", and begin at random; ")[0] for text in doubted] == told


@pytest.mark.parametrize(
    ("backbone", "unfreeze", "idle"),
    [
        ({"name": "vit_tiny"}, {0: "none"}, "c5"),
        ({"name": "vit_tiny"}, {0: ["c5"]}, None),
        ({"name": "gcnet50"}, {0: ["c5"]}, "c3, c4"),
        ({"name": "resnet18", "surgery": {"attention": [{"kind": "se"}]}}, {0: "none"}, "c3, c4, c5"),
        ({"name": "resnet18", "surgery": {"deformable": ["c4"]}}, {0: ["c5"]}, "c4"),
        ({"name": "resnet18", "surgery": {"deformable": ["c4"]}}, {0: "none", 1: ["c4"]}, None),
        ({"name": "resnet18", "surgery": {"stochastic_depth": 0.1}}, {0: "none"}, None),
    ],
)
def test_new_layers_that_never_train_are_doubted_although_there_are_weights(
    backbone: dict[str, Any], unfreeze: dict[int, Any], idle: str | None, small: Document
) -> None:
    values = {"backbone": {"weights": "default", **backbone}, "unfreeze": unfreeze}
    doubted = list(document_warnings(job_of(small, **values)))
    assert [text.partition(" of the backbone never train, and have layers")[0] for text in doubted] == (
        [] if idle is None else [f"model.unfreeze: {idle}"]
    )


def test_norms_that_are_frozen_at_random_are_doubted(small: Document) -> None:
    frozen = {"backbone.surgery": {"freeze_batchnorm": True}}
    (doubt,) = document_warnings(job_of(small, **frozen))
    assert doubt.startswith("model.backbone.surgery.freeze_batchnorm: the norms keep the scales that they begin with")
    assert not list(document_warnings(job_of(small, **frozen, **{"backbone.weights": "default"})))
    assert not list(document_warnings(job_of(small, **frozen, init_from="runs/a")))


@pytest.mark.parametrize(
    ("compound", "size", "told"),
    [
        (1, 256, ["data.image_size: got 256; depths, widths and resolution are scaled together, and model.backbone."]),
        (1, [224, 258], []),
        (0, 96, []),
    ],
)
def test_small_images_for_a_design_that_is_scaled_up_are_doubted(
    compound: float, size: Any, told: list[str], small: Document
) -> None:
    design = {"design": {"preset": "efficientnet_b0", "compound": compound}}
    job = job_of(apply_override(small, "data.image_size", size), backbone=design)
    assert [text[: len(told[0])] for text in document_warnings(job)] == told
