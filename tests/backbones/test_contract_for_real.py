"""The backbone contract with real arithmetic: by default for the lightest row of each family up to 2 GMACs, and for
all others in `make test-slow`. Tests that need shapes only are in test_contract.py."""

import copy

import pytest
import torch
from torch import Tensor

from backbones.base import LEVELS
from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import built_on_meta
from backbones.simple_pyramid import SingleScaleExtractor
from tests.backbones.sizes import rows_by_speed

OTHERS = ("timm:mnasnet_small", "timm:resnetv2_18", "tv:mnasnet0_5")
"""Networks outside the catalog, from both libraries."""
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module", params=[*rows_by_speed(up_to_giga_macs=2), *OTHERS])
def backbone(request: pytest.FixtureRequest) -> TappedBackbone:
    torch.manual_seed(0)
    return create_backbone(request.param)


def _images(batch: int) -> Tensor:
    return torch.randn(batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def test_maps_are_finite_for_one_image_in_training_and_for_two_in_evaluation(backbone: TappedBackbone) -> None:
    for features in (backbone.train()(_images(1)), backbone.eval()(_images(2))):
        assert tuple(features) == LEVELS
        assert all(feature.isfinite().all() for feature in features.values())


def test_state_dict_transfers_the_whole_network(backbone: TappedBackbone) -> None:
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.normal_()
    twin.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        maps, others = backbone.eval()(_images(1)), twin.eval()(_images(1))
    for level in LEVELS:
        torch.testing.assert_close(maps[level], others[level], rtol=0, atol=0)


@pytest.mark.parametrize("stages", [("c3",), ("c3", "c4"), LEVELS])
def test_only_trainable_stages_get_gradients(backbone: TappedBackbone, stages: tuple[str, ...]) -> None:
    """Levels of frozen stages need a gradient in single-scale networks only, where they depend on the whole depth."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(backbone.stages[name] not in stages)
    features = backbone.train()(_images(2))
    wanting = {level for level, feature in features.items() if feature.requires_grad}
    is_single_scale = isinstance(backbone.body, SingleScaleExtractor)
    assert wanting <= (set(LEVELS) if is_single_scale and stages != LEVELS else set(LEVELS) - set(stages))
    if any(parameter.requires_grad for parameter in backbone.parameters()):
        sum(features[level].square().mean() for level in wanting).backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())
    backbone.requires_grad_().zero_grad()


def test_bfloat16_and_channels_last_agree_with_float32(backbone: TappedBackbone) -> None:
    expected = backbone.eval()(_images(1))
    lean = copy.deepcopy(backbone).to(memory_format=torch.channels_last)
    images = _images(1).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = lean(images)
    for level, feature in features.items():
        scale = expected[level].square().mean().sqrt()
        assert (feature.float() - expected[level]).square().mean().sqrt() < 0.2 * scale


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:efficientvit_m0", r"strides \[16, 32, 64\], but not \[8\]"),
        ("tv:squeezenet1_1", r"strides \[2, 4, 8, 16\], but not \[32\]"),
        ("tv:vit_b_16", "does not accept an image of 512x640 pixels"),
        ("timm:efficientformerv2_s0", "does not accept an image of 512x640 pixels"),
    ],
)
def test_network_without_pyramid_strides_is_rejected_with_a_reason(name: str, reason: str) -> None:
    with built_on_meta(), pytest.raises(ValueError, match=f"backbone '{name}': .*{reason}"):
        create_backbone(name)


@pytest.mark.parametrize("name", ["tv:efficientnet_b0", pytest.param("tv:swin_t", marks=pytest.mark.slow)])
def test_stochastic_depth_is_on_in_training_and_off_in_evaluation(name: str) -> None:
    backbone = create_backbone(name).eval()
    images = _images(4)
    torch.testing.assert_close(backbone(images)["c5"], copy.deepcopy(backbone)(images)["c5"], rtol=0, atol=0)
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(backbone(images)["c5"], backbone(images)["c5"])


def test_googlenet_images_are_normalized_once() -> None:
    """torchvision's conversion from ImageNet's normalization to Google's is disabled."""
    backbone = create_backbone("googlenet_bn")
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert not any("aux" in name for name in backbone.state_dict())


def test_mean_and_std_are_those_of_the_default_weights() -> None:
    assert create_backbone("resnet14_thin").mean == (0.485, 0.456, 0.406)
    assert create_backbone("timm:mobilenetv1_100").mean == (0.5, 0.5, 0.5)
    assert create_backbone("tv:mnasnet0_5").std == (0.229, 0.224, 0.225)


def test_same_weights_give_the_same_maps_in_timm_and_torchvision() -> None:
    ours, theirs = create_backbone("timm:resnet18").eval(), create_backbone("tv:resnet18").eval()
    theirs.load_state_dict(ours.state_dict())
    for feature, other in zip(ours(_images(1)).values(), theirs(_images(1)).values(), strict=True):
        torch.testing.assert_close(feature, other)


def test_thin_resnet_is_small() -> None:
    backbone = create_backbone("resnet14_thin")
    assert [spec.channels for spec in backbone.feature_specs.values()] == [64, 128, 256]
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 1_600_000
