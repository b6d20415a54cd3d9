"""Transformers and other single-scale timm networks as backbones."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.catalog.row import BackboneRow
from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import built_on_meta
from backbones.timm_adapter import build_timm_extractor
from backbones.weights import load_weights_file
from tests.bench.frozen_stages import saved_bytes

SMALL = {
    "test_vit": {},
    "deit_tiny_distilled_patch16_224": {"depth": 3},
    "deit3_small_patch16_224": {"depth": 3},
    "vit_small_patch14_reg4_dinov2": {"depth": 3},
    "convmixer_768_32": {},
    "vit_small_patch16_dinov3": {"depth": 3},
}
"""Small or shallow networks with a class token, a distillation token, no prefix token, registers, convolutions and
rotary position embeddings."""


def build(name: str) -> TappedBackbone:
    torch.manual_seed(0)
    return TappedBackbone(build_timm_extractor(BackboneRow(name, "timm", name, kwargs=SMALL[name]), pretrained=False))


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def reference(backbone: TappedBackbone, name: str, **kwargs: object) -> nn.Module:
    """Return timm's network with the weights of `backbone`, with position embeddings resampled to its size."""
    network = timm.create_model(name, num_classes=0, **SMALL[name], **kwargs).eval()
    state = dict(backbone.body.network.state_dict())
    state["pos_embed"] = resample_abs_pos_embed(
        state["pos_embed"],
        network.patch_embed.grid_size,
        num_prefix_tokens=0 if network.no_embed_class else network.num_prefix_tokens,
    )
    left = network.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(key.startswith("fc_norm") for key in left.missing_keys)
    return network


def as_map(tokens: Tensor, network: nn.Module) -> Tensor:
    """Return the patch tokens of (B, N, D) as a map (B, D, H, W)."""
    height, width = network.patch_embed.grid_size
    return tokens[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (height, width))


@pytest.mark.parametrize(
    ("name", "side"), [("test_vit", 160), ("deit_tiny_distilled_patch16_224", 224), ("deit3_small_patch16_224", 224)]
)
def test_c4_equals_the_map_of_timm_at_the_native_size(name: str, side: int) -> None:
    backbone = build(name).eval()
    network = reference(backbone, name)
    expected = as_map(network.forward_features(images(2, side, side)), network)
    torch.testing.assert_close(backbone(images(2, side, side))["c4"], backbone.norms["c4"](expected))


@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"])
def test_at_other_sizes_position_embeddings_are_resampled(name: str) -> None:
    """A size that is not a multiple of the patch size is padded first."""
    backbone = build(name).eval()
    network = reference(backbone, name, img_size=(96, 128))
    padded = F.pad(images(1, 75, 101), (0, 27, 0, 21))
    expected = as_map(network.forward_features(padded), network)
    torch.testing.assert_close(backbone(images(1, 75, 101))["c4"], backbone.norms["c4"](expected))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_a_single_scale_network_gets_a_gradient(name: str) -> None:
    backbone = build(name).train()
    torch.stack([feature.square().mean() for feature in backbone(images(1, 64, 96)).values()]).sum().backward()
    assert list(backbone.stages) == [key for key, _ in backbone.named_parameters()]
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", SMALL)
def test_levels_cover_images_of_odd_sizes(name: str) -> None:
    backbone = build(name).eval()
    for level, feature in backbone(images(1, 50, 93)).items():
        stride = 2 ** int(level[1])
        assert feature.shape == (1, backbone.feature_specs[level].channels, 64 // stride, 96 // stride)
        assert feature.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_embedding_is_in_the_first_stage_and_final_norm_in_the_last(name: str) -> None:
    with built_on_meta():
        backbone = build(name)
    num_blocks = len(backbone.body.network.get_submodule("blocks"))
    for key, stage in backbone.stages.items():
        part = key.removeprefix("body.network.")
        if part.startswith("blocks."):
            assert stage == ("c3", "c4", "c5")[int(part.split(".")[1]) * 3 // num_blocks]
        else:
            is_after_blocks = part.startswith(("norm.", "norms.", "body.pyramid."))
            assert stage == ("c5" if is_after_blocks else "c3")


def test_each_frozen_third_saves_a_third_of_the_activations() -> None:
    backbone = build("test_vit").train()
    kept = []
    for num_frozen in range(4):
        frozen = LEVELS[:num_frozen]
        for key, parameter in backbone.named_parameters():
            parameter.requires_grad_(backbone.stages[key] not in frozen)
        kept.append(saved_bytes(backbone, lambda: backbone(images(2, 96, 96))))
    assert kept[3] == 0
    assert kept[1] == pytest.approx(2 / 3 * kept[0], rel=0.1)
    assert kept[2] == pytest.approx(1 / 3 * kept[0], rel=0.2)


def test_layers_equal_those_of_layer_decay_in_timm() -> None:
    with built_on_meta():
        layers = create_backbone("timm:deit_tiny_patch16_224").layers
    course = ["patch_embed.proj.weight", *(f"blocks.{k}.mlp.fc1.weight" for k in range(12)), "norm.weight"]
    assert [layers[f"body.network.{name}"] for name in course] == [*range(13), 12]
    assert {layers[f"body.network.{name}"] for name in ("pos_embed", "cls_token")} == {0}


def test_file_of_timm_weights_fits_a_single_scale_network(tmp_path: Path) -> None:
    original = timm.create_model("test_vit")
    torch.save(original.state_dict(), tmp_path / "vit.pt")
    backbone = create_backbone("timm:test_vit")
    report = load_weights_file(backbone.body.network, tmp_path / "vit.pt")
    assert report.missing == report.mis_shaped == ()
    assert report.unexpected == ("head.weight", "head.bias")


def test_bfloat16_agrees_with_float32_for_shrunken_images() -> None:
    for name in ("test_vit", "convmixer_768_32"):
        backbone = build(name).eval()
        expected = backbone(images(1, 64, 64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = backbone.to(memory_format=torch.channels_last)(images(1, 64, 64))
        for level, feature in features.items():
            scale = expected[level].square().mean().sqrt()
            assert (feature.float() - expected[level]).square().mean().sqrt() < 0.05 * scale


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:vit_base_patch32_224", r"strides \[32\], but not \[8, 16\]"),
        ("timm:mixer_s16_224", "does not accept an image of 512x640 pixels"),
    ],
)
def test_single_map_that_is_too_coarse_or_of_fixed_size_is_rejected(name: str, reason: str) -> None:
    with built_on_meta(), pytest.raises(ValueError, match=f"backbone '{name}': .*{reason}"):
        create_backbone(name)
