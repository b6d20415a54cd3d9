"""Valid documents that are probably mistakes give warnings that name the field to change."""

import re
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
    ("values", "expected"),
    [
        ({"transfer": "freeze"}, ["model.unfreeze: c3, c4, c5 of the backbone"]),
        ({"unfreeze": {0: "none", 2: ["c4"], 3: ["c5"]}}, ["model.unfreeze: c3 of the backbone"]),
        ({"transfer": "gradual"}, []),
        ({"transfer": "freeze", "init_from": "runs/a"}, []),
        ({"transfer": "freeze", "backbone.weights": "default"}, []),
        ({"lr_scale": HEAD_AND_NECK}, ["model.lr_scale: with a factor of 0 c3, heads.scene, neck"]),
        (
            {"lr_scale": HEAD_AND_NECK, "transfer": "freeze"},
            [
                "model.unfreeze: c4, c5 of the backbone",
                "model.lr_scale: with a factor of 0 c3, heads.scene, neck",
            ],
        ),
        (
            {"lr_scale": HEAD_AND_NECK, "backbone.weights": "default"},
            ["model.lr_scale: with a factor of 0 heads.scene, neck"],
        ),
        ({"lr_scale": HEAD_AND_NECK, "init_from": "runs/a"}, []),
    ],
)
def test_warns_of_random_parts_that_never_train(values: dict[str, Any], expected: list[str], small: Document) -> None:
    warnings = list(document_warnings(job_of(small, **values)))
    assert all("never train" in text and "random weights" in text for text in warnings)
    subjects = [re.split(r" (?:start from|never train)", text)[0] for text in warnings]
    assert subjects == expected


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
def test_warns_of_new_layers_that_never_train_beside_layers_with_weights(
    backbone: dict[str, Any], unfreeze: dict[int, Any], idle: str | None, small: Document
) -> None:
    values = {"backbone": {"weights": "default", **backbone}, "unfreeze": unfreeze}
    warnings = list(document_warnings(job_of(small, **values)))
    assert [text.partition(" of the backbone never train but have layers")[0] for text in warnings] == (
        [] if idle is None else [f"model.unfreeze: {idle}"]
    )


def test_warns_of_norms_frozen_with_random_weights(small: Document) -> None:
    frozen = {"backbone.surgery": {"freeze_batchnorm": True}}
    (warning,) = document_warnings(job_of(small, **frozen))
    assert warning.startswith("model.backbone.surgery.freeze_batchnorm: the norms keep their initial scales")
    assert not list(document_warnings(job_of(small, **frozen, **{"backbone.weights": "default"})))
    assert not list(document_warnings(job_of(small, **frozen, init_from="runs/a")))


@pytest.mark.parametrize(
    ("compound", "size", "expected"),
    [
        (1, 256, ["data.image_size: got 256, which is small for model.backbone."]),
        (1, [224, 258], []),
        (0, 96, []),
    ],
)
def test_warns_of_small_images_for_a_scaled_design(
    compound: float, size: Any, expected: list[str], small: Document
) -> None:
    design = {"design": {"preset": "efficientnet_b0", "compound": compound}}
    job = job_of(apply_override(small, "data.image_size", size), backbone=design)
    assert [text[: len(expected[0])] for text in document_warnings(job)] == expected
