"""Norms are added to levels that the network does not normalize."""

import pytest
import torch
from torch import nn

from backbones.create import create_backbone
from backbones.level_norms import is_normalized


@pytest.mark.parametrize(
    ("name", "normed"),
    [
        ("resnet14_thin", []),
        ("efficientnet_b0", []),
        ("mobilenet_v3_small", []),
        ("tv:googlenet", []),
        ("timm:swinv2_tiny_window8_256", []),
        ("timm:resnetv2_18", ["c3", "c4", "c5"]),
        ("convnext_atto", ["c3", "c4", "c5"]),
        ("swin_tiny", ["c3", "c4", "c5"]),
        ("alexnet", ["c3", "c4", "c5"]),
        ("densenet121", ["c3", "c4"]),
    ],
)
def test_unnormalized_levels_get_a_norm(name: str, normed: list[str]) -> None:
    backbone = create_backbone(name)
    norms = {f"norms.{level}.{kind}" for level in normed for kind in ("weight", "bias")}
    assert {key for key in backbone.state_dict() if key.startswith("norms.")} == norms
    assert all(backbone.stages[key] == key.split(".")[1] for key in norms)
    features = backbone(torch.randn(1, 3, 128, 128))
    for level in normed:
        assert features[level].std().item() == pytest.approx(1.0, abs=0.05)


def test_sum_needs_one_normalized_map_and_concatenation_all() -> None:
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    images = torch.randn(2, 3, 4, 4)
    raw, normed = conv(images), norm(conv(images))
    assert is_normalized(torch.relu(normed + raw))
    assert is_normalized(nn.functional.max_pool2d(normed, 2).permute(0, 2, 3, 1))
    assert not is_normalized(raw + conv(normed))
    assert not is_normalized(torch.cat([normed, raw], dim=1))
    assert is_normalized(torch.cat([normed, normed.relu()], dim=1))
