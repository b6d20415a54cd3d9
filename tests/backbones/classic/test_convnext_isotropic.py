"""Isotropic ConvNeXt."""

import torch

from backbones.classic.convnext_isotropic import ConvNeXtIsotropic


def test_maps_follow_thirds_of_the_depth_and_the_last_is_normalized() -> None:
    torch.manual_seed(0)
    network = ConvNeXtIsotropic(depth=5, width=8)
    outputs: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    first, second, last = network(torch.randn(2, 3, 64, 96))
    torch.testing.assert_close([first, second], [outputs[1], outputs[3]], rtol=0, atol=0)
    centered = outputs[4] - outputs[4].mean(dim=1, keepdim=True)
    torch.testing.assert_close(last, centered / (centered.square().mean(dim=1, keepdim=True) + 1e-6).sqrt())
    assert last.shape == (2, 8, 4, 6)


def test_blocks_have_no_layer_scale_and_small_normal_weights() -> None:
    torch.manual_seed(0)
    network = ConvNeXtIsotropic(depth=3, width=64)
    assert not any("gamma" in name for name in network.state_dict())
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert 0.018 < parameter.std() < 0.022
        else:
            assert (parameter == (1 if name.endswith("norm.weight") else 0)).all()
