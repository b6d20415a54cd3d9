"""Synchronized BatchNorm in eval mode equals the BatchNorm that it replaces."""

import pytest
import torch
from torch import nn

from backbones.create import create_backbone
from backbones.sync_batchnorm import synchronize_batch_norms


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_resnet", "tv:resnet18"])
def test_synchronized_network_keeps_outputs_state_and_modes(name: str) -> None:
    """One of the networks is timm's EfficientNet, whose norms include activations."""
    torch.manual_seed(0)
    network = create_backbone(name).eval()
    images = torch.randn(1, 3, 64, 64)
    before, state = network(images), network.state_dict()
    parameters = dict(network.named_parameters())
    network.train()
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    modes = [module.training for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    synchronized = synchronize_batch_norms(network)
    norms = [module for module in synchronized.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert [norm.training for norm in norms] == modes
    assert False in modes
    assert list(synchronized.state_dict()) == list(state)
    assert all(parameter is parameters[name] for name, parameter in synchronized.named_parameters())
    again = synchronize_batch_norms(synchronized)
    for level, feature in again.eval()(images).items():
        assert torch.equal(feature, before[level])
