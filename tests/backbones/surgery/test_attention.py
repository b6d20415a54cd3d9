"""Attention blocks: shapes, sizes, and behavior before training."""

import pytest
import torch
from torch import Tensor, nn

from backbones.spec.surgery import Attention
from backbones.surgery.attention import attention_block


@pytest.fixture
def feature() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 32, 6, 7)


@pytest.mark.parametrize("kind", ["gc", "nl"])
def test_untrained_block_is_the_identity_in_train_and_eval_mode(kind: Attention, feature: Tensor) -> None:
    block = attention_block(kind, 32, 1 / 4)
    assert torch.equal(block.train()(feature), feature)
    assert torch.equal(block.eval()(feature), feature)


@pytest.mark.parametrize("kind", ["gc", "nl"])
def test_identity_block_gets_gradients(kind: Attention, feature: Tensor) -> None:
    """Parameters that start at zero get a gradient in the first step, and all others after that step."""
    block = attention_block(kind, 32, 1 / 4)
    for _ in range(2):
        block.zero_grad()
        block(feature).pow(3).mean().backward()
        with torch.no_grad():
            for parameter in block.parameters():
                assert parameter.grad is not None
                parameter -= parameter.grad.sign()
    assert not torch.equal(block(feature), feature)
    # Softmax and the norm after a non-local block cancel values that are the same for all cells.
    still = {name for name, p in block.named_parameters() if p.grad is not None and p.grad.abs().max() < 1e-7}
    assert still <= {"conv_attn.bias", "p.bias", "g.bias", "z.bias"}


def test_squeeze_and_excitation_scales_each_channel_by_a_gate(feature: Tensor) -> None:
    gates = attention_block("se", 32, 1 / 4)(feature) / feature
    assert 0 < gates.min() < gates.max() < 1
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "ratio", "parameters"),
    [
        ("se", 1 / 16, 2 * 256 * 16 + 16 + 256),
        ("gc", 1 / 16, 257 + (256 * 16 + 16) + 2 * 16 + (16 * 256 + 256)),
        ("nl", 1 / 2, 3 * (256 * 128 + 128) + (128 * 256 + 256) + 2 * 256),
        ("gc", 1e-6, 257 + (256 + 1) + 2 * 1 + (256 + 256)),
    ],
)
def test_ratio_sets_the_inner_channels_and_keeps_at_least_one(kind: Attention, ratio: float, parameters: int) -> None:
    block: nn.Module = attention_block(kind, 256, ratio)
    assert sum(parameter.numel() for parameter in block.parameters()) == parameters
