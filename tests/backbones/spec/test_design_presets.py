"""Presets: published networks in the design space."""

import pytest
import torch
from torch import nn

from backbones.create import TappedBackbone, create_backbone
from backbones.design_space.classifier import DesignClassifier
from backbones.design_space.network import DesignExtractor
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.design_presets import PRESETS

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "preresnet50": 25_549_352,
    "resnext50": 25_028_904,
    "se_resnet50": 28_088_024,
    "gcnet50": 28_105_032,
    "densenet121": 7_978_856,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "convnext_tiny": 28_589_128,
    "convnext_atto": 3_695_520,
}

CHANNELS = {
    "resnet18": (128, 256, 512),
    "resnet34": (128, 256, 512),
    "densenet121": (512, 1024, 1024),
    "mobilenet_v2": (32, 96, 320),
    "efficientnet_b0": (40, 112, 320),
    "convnext_tiny": (192, 384, 768),
    "convnext_atto": (80, 160, 320),
}

DIFFERENT = ("resnet18", "preresnet50", "nlnet50", "densenet121", "mobilenet_v2", "convnext_atto")
"""Presets that each cover a new element; the others are slow tests."""


def preset(name: str, **changes: object) -> DesignSpec:
    return DesignSpec.model_validate({"preset": name, **changes})


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_with_classifier_has_the_published_parameters(name: str) -> None:
    with built_on_meta():
        assert num_parameters(DesignClassifier(preset(name))) == PUBLISHED[name]


def test_nlnet50_is_resnet50_with_one_non_local_block() -> None:
    with built_on_meta():
        assert num_parameters(DesignExtractor(preset("nlnet50"))) == 25_609_792


def test_every_preset_has_a_published_number_of_parameters() -> None:
    assert {*PUBLISHED, "nlnet50"} == {*PRESETS}


@pytest.mark.parametrize(
    "name", [*DIFFERENT, *(pytest.param(name, marks=pytest.mark.slow) for name in PRESETS if name not in DIFFERENT)]
)
def test_preset_is_a_backbone_and_every_parameter_has_a_stage(name: str) -> None:
    with built_on_meta():
        backbone = TappedBackbone(DesignExtractor(preset(name)))
    channels = tuple(backbone.feature_specs[level].channels for level in ("c3", "c4", "c5"))
    assert channels == CHANNELS.get(name, (512, 1024, 2048))
    assert list(backbone.stages) == [name for name, _ in backbone.named_parameters()]
    assert set(backbone.layers) == set(backbone.stages)
    assert max(backbone.layers.values()) >= sum(len(stage.blocks) for stage in preset(name).stages)


@pytest.mark.parametrize("name", PRESETS)
def test_dumped_design_validates_to_the_same_network(name: str) -> None:
    spec = preset(name)
    assert DesignSpec.model_validate_json(spec.model_dump_json()) == spec
    assert DesignSpec.model_validate(spec.model_dump(mode="json") | {"preset": None}) == spec.model_copy(
        update={"preset": None}
    )


def test_field_overrides_the_preset() -> None:
    changed = preset("resnet50", activation="gelu")
    assert changed.model_dump() == preset("resnet50").model_dump() | {"activation": "gelu"}
    assert changed.label == "design:resnet50+activation"
    assert preset("resnet50").label == "design:resnet50"


def test_design_without_preset_is_described_by_fields() -> None:
    spec = DesignSpec(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16))
    assert spec.label == "design:own"
    features = create_backbone(spec)(torch.randn(1, 3, 64, 96))
    assert {level: tuple(feature.shape) for level, feature in features.items()} == {
        "c3": (1, 8, 8, 12),
        "c4": (1, 16, 4, 6),
        "c5": (1, 16, 2, 3),
    }


@pytest.mark.parametrize(("kind", "expected"), [("none", None), ("se", "se")])
def test_attention_accepts_a_kind_as_shorthand(kind: str, expected: str | None) -> None:
    attention = preset("resnet50", attention=kind).attention
    assert (attention and attention.kind) == expected
    assert preset("se_resnet50", attention="none") == preset("resnet50").model_copy(update={"preset": "se_resnet50"})


def test_old_name_of_a_field_overrides_the_preset() -> None:
    spec = DesignSpec.model_validate({"preset": "convnext_tiny", "initialisation": "kaiming"})
    assert spec.initialization == "kaiming"
