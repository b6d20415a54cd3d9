"""Folding of branches, which keeps the output."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.create import TappedBackbone, create_backbone
from backbones.spec.surgery import SurgerySpec
from backbones.sync_batchnorm import synchronize_batch_norms


def with_statistics(name: str, **surgery: object) -> TappedBackbone:
    """Return a backbone whose norms look trained: all statistics and scales differ."""
    torch.manual_seed(0)
    backbone = create_backbone(name, surgery=SurgerySpec.model_validate({"reparameterize": True, **surgery}))
    with torch.no_grad():
        for module in backbone.modules():
            if hasattr(module, "running_var"):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
    return backbone.eval()


def assert_same_maps(maps: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for level in LEVELS:
        assert expected[level].std() > 0.01
        assert (maps[level] - expected[level]).abs().max() < 1e-5 * expected[level].abs().max()


@pytest.mark.parametrize(
    ("name", "surgery"),
    [
        ("repvgg_a0", {}),
        ("repvgg_a0", {"freeze_batchnorm": True, "stochastic_depth": 0.2}),
        ("mobileone_s0", {"attention": [{"kind": "se", "stages": ["c5"], "position": "last_block"}]}),
    ],
)
def test_folded_network_produces_the_maps_of_its_branches(name: str, surgery: dict[str, object]) -> None:
    backbone = with_statistics(name, **surgery)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before = backbone(images)
        backbone.fold()
        after = backbone(images)
    assert_same_maps(after, before)
    assert not any("conv_kxk" in key or "conv_1x1" in key for key in backbone.state_dict())


def test_synchronized_norms_are_folded() -> None:
    """Synchronized norms remain after training, and would not run on a CPU."""
    backbone = with_statistics("repvgg_a0")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(images)
        synchronize_batch_norms(backbone)
        backbone.fold()
        assert_same_maps(backbone(images), before)


def test_stages_and_layers_are_updated_after_folding() -> None:
    backbone = with_statistics("repvgg_a0")
    specs, layers = backbone.feature_specs, max(backbone.layers.values())
    backbone.fold()
    assert backbone.feature_specs == specs
    assert list(backbone.stages) == list(backbone.layers) == [key for key, _ in backbone.named_parameters()]
    assert set(backbone.stages.values()) == set(LEVELS)
    assert max(backbone.layers.values()) == layers


def test_folding_a_network_twice_changes_nothing() -> None:
    backbone = with_statistics("repvgg_a0")
    backbone.fold()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.fold()
    after = backbone.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_folding_a_network_without_branches_is_rejected() -> None:
    backbone = create_backbone("resnet14_thin")
    with pytest.raises(ValueError, match="no block that can be folded"):
        backbone.fold()
