"""The backbone contract, over the whole catalogue and over small members of every family of both libraries."""

import copy

import pytest
import torch
from torch import Tensor

from backbones.base import LEVELS, Backbone
from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.meta_run import run_on_meta

SMALL_OF_EACH_FAMILY = (
    "resnet14_thin",
    "timm:resnetv2_18",
    "convnext_atto",
    "efficientnet_b0",
    "densenet121",
    "mobilenet_v3_small",
    "swin_tiny",
    "timm:mnasnet_small",
    "inception_v3",
    "tv:resnet18",
    "tv:regnet_y_400mf",
    "tv:mnasnet0_5",
    "tv:googlenet",
    "tv:vgg11_bn",
    "tv:alexnet",
)
OTHER_FAMILIES = (
    "timm:mobilenetv2_035",
    "timm:nf_regnet_b0",
    "timm:hrnet_w18_small",
    "timm:swinv2_tiny_window8_256",
    "timm:inception_v4",
    "tv:convnext_tiny",
    "tv:densenet121",
    "tv:efficientnet_b0",
    "tv:inception_v3",
    "tv:mobilenet_v3_small",
    "tv:swin_t",
)
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module", params=SMALL_OF_EACH_FAMILY)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return create_backbone(request.param)


def _images(batch: int) -> Tensor:
    return torch.randn(batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def _freeze(backbone: Backbone, stages: tuple[str, ...]) -> Backbone:
    frozen = copy.deepcopy(backbone)
    for name, parameter in frozen.named_parameters():
        parameter.requires_grad_(frozen.stages[name] not in stages)
    return frozen


@pytest.mark.parametrize("name", [*CATALOG, *OTHER_FAMILIES])
def test_every_network_gives_three_levels_with_complete_stages(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
    for image_hw in ((256, 320), (256, 352)):
        maps = run_on_meta(backbone, image_hw).outputs
        for level, feature in zip(LEVELS, maps, strict=True):
            stride = 2 ** int(level[1])
            assert feature.shape == (
                1,
                backbone.feature_specs[level].channels,
                image_hw[0] // stride,
                image_hw[1] // stride,
            )
    assert list(backbone.stages) == [parameter_name for parameter_name, _ in backbone.named_parameters()]


def test_levels_have_the_channels_and_strides_of_their_specs(backbone: Backbone) -> None:
    features = backbone.eval()(_images(2))
    assert tuple(features) == tuple(backbone.feature_specs) == LEVELS
    for level, feature in features.items():
        spec = backbone.feature_specs[level]
        assert spec.stride == 2 ** int(level[1])
        assert feature.shape == (2, spec.channels, HEIGHT / spec.stride, WIDTH / spec.stride)
        assert feature.isfinite().all()


def test_every_parameter_has_one_stage_and_gets_a_gradient(backbone: Backbone) -> None:
    features = backbone.train()(_images(2))
    sum(feature.square().mean() for feature in features.values()).backward()
    assert list(backbone.stages) == [name for name, _ in backbone.named_parameters()]
    assert set(backbone.stages.values()) <= set(LEVELS)
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []
    backbone.zero_grad()


def test_a_parameter_of_a_stage_is_needed_by_no_level_before_it(backbone: Backbone) -> None:
    backbone.train()(_images(2))["c4"].square().mean().backward()
    reached = {backbone.stages[name] for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    backbone.zero_grad()
    assert reached == {"c3", "c4"}


def test_a_single_image_is_a_batch_in_training_too(backbone: Backbone) -> None:
    for feature in backbone.train()(_images(1)).values():
        assert feature.shape[0] == 1
        assert feature.isfinite().all()


def test_a_state_dict_moves_the_whole_network(backbone: Backbone) -> None:
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.normal_()
    twin.load_state_dict(backbone.state_dict())
    for feature, other in zip(backbone.eval()(_images(1)).values(), twin.eval()(_images(1)).values(), strict=True):
        torch.testing.assert_close(feature, other, rtol=0, atol=0)


@pytest.mark.parametrize("stages", [("c3",), ("c3", "c4"), LEVELS])
def test_frozen_stages_leave_no_backward_below(backbone: Backbone, stages: tuple[str, ...]) -> None:
    frozen = _freeze(backbone, stages)
    features = frozen.train()(_images(2))
    for level in stages:
        assert features[level].grad_fn is None
    trainable = [p for p in frozen.parameters() if p.requires_grad]
    if trainable:
        sum(feature.square().mean() for level, feature in features.items() if feature.requires_grad).backward()
    assert all(p.grad is not None for p in trainable)
    assert all(p.grad is None for p in frozen.parameters() if not p.requires_grad)


def test_bfloat16_and_channels_last_give_what_float32_gives(backbone: Backbone) -> None:
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
        ("timm:vit_tiny_patch16_224", r"strides \[16\], none has \[8, 32\]; a pyramid needs 8, 16 and 32"),
        ("timm:efficientvit_m0", r"strides \[16, 32, 64\], none has \[8\]"),
        ("tv:squeezenet1_1", r"strides \[2, 4, 8, 16\], none has \[32\]"),
        ("tv:vit_b_16", "does not take an image of 512x640 pixels"),
        ("timm:efficientformerv2_s0", "does not take an image of 512x640 pixels"),
    ],
)
def test_a_network_that_cannot_feed_a_pyramid_is_refused_with_the_reason(name: str, reason: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"backbone '{name}': .*{reason}"):
        create_backbone(name)


@pytest.mark.parametrize("name", ["tv:efficientnet_b0", "tv:swin_t"])
def test_stochastic_depth_is_on_in_training_and_off_in_evaluation(name: str) -> None:
    backbone = create_backbone(name).eval()
    images = _images(4)
    torch.testing.assert_close(backbone(images)["c5"], copy.deepcopy(backbone)(images)["c5"], rtol=0, atol=0)
    backbone.train()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(backbone(images)["c5"], backbone(images)["c5"])


def test_googlenet_is_given_images_as_googles_weights_expect_them() -> None:
    """torchvision would turn ImageNet's normalisation into Google's inside the network: not twice."""
    backbone = create_backbone("googlenet")
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert not any("aux" in name for name in backbone.state_dict())


def test_mean_and_std_are_those_of_the_default_weights() -> None:
    assert create_backbone("resnet14_thin").mean == (0.485, 0.456, 0.406)
    assert create_backbone("timm:mobilenetv1_100").mean == (0.5, 0.5, 0.5)
    assert create_backbone("tv:mnasnet0_5").std == (0.229, 0.224, 0.225)


def test_the_same_weights_give_the_same_maps_in_timm_and_torchvision() -> None:
    ours, theirs = create_backbone("timm:resnet18").eval(), create_backbone("tv:resnet18").eval()
    theirs.load_state_dict(ours.state_dict())
    for feature, other in zip(ours(_images(1)).values(), theirs(_images(1)).values(), strict=True):
        torch.testing.assert_close(feature, other)


def test_the_thin_resnet_is_as_small_as_its_name_says() -> None:
    backbone = create_backbone("resnet14_thin")
    assert [spec.channels for spec in backbone.feature_specs.values()] == [64, 128, 256]
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 1_600_000
