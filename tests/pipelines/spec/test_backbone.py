"""`model.backbone` describes one network, by name or by design, and changes to its layers."""

from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.spec.load import apply_override, resolved, validate_document
from pipelines.spec.model import BackboneSpec

Document = dict[str, Any]


def backbone(small: Document, **fields: Any) -> BackboneSpec:
    return validate_document(apply_override(small, "model.backbone", fields)).model.backbone


def test_named_network_has_default_weights_and_a_design_has_random_ones(small: Document) -> None:
    assert backbone(small, name="resnet18").weights == "default"
    assert backbone(small, design={"preset": "resnet18"}).weights == "none"
    assert backbone(small, design={"preset": "resnet18"}, weights="a.pt").weights == "a.pt"


def test_complete_document_describes_the_same_network(small: Document) -> None:
    fields = {
        "design": {"preset": "resnet18"},
        "surgery": {"freeze_batchnorm": True, "attention": [{"kind": "gc", "stages": ["c5", "c4"]}]},
    }
    job = validate_document(apply_override(small, "model.backbone", fields))
    assert validate_document(resolved(job)) == job
    assert job.model.backbone.label == "design:resnet18"


def test_surgery_lists_its_requested_changes(small: Document) -> None:
    changes = {"deformable": ["c5", "c4"], "stochastic_depth": 0.0, "reparameterize": False}
    surgery = backbone(small, name="resnet18", surgery=changes).surgery
    assert surgery.requested == ("deformable", "stochastic_depth")
    assert surgery.deformable == ("c4", "c5")
    assert backbone(small, name="resnet18").surgery.requested == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "model.backbone: got neither a name nor a design; give one"),
        (
            {"name": "vgg11", "design": {"preset": "resnet18"}},
            "model.backbone: got the name 'vgg11' and a design; give one of them, and null for",
        ),
        ({"design": {"preset": "resnet18"}, "weights": "default"}, "model.backbone.weights: got 'default', but a desi"),
        ({"name": "vgg11", "surgery": {"attention": [{"kind": "gcx"}]}}, "attention.0.kind: got 'gcx'; did you mean"),
        ({"name": "vgg11", "surgery": {"deformable": ["c4", "c4"]}}, "surgery.deformable: got ['c4', 'c4']; list each"),
        ({"name": "vgg11", "surgery": {"stochastic_depth": 1}}, "stochastic_depth: got 1; should be less than 1"),
    ],
)
def test_invalid_backbone_is_reported(small: Document, fields: Document, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone(small, **fields)
    assert expected in str(caught.value)
