import pytest
import torch
from torch import nn

from heads.norm import group_norm


@pytest.mark.parametrize(("channels", "groups"), [(96, 32), (256, 32), (12, 4), (7, 1), (80, 16), (32, 16), (2, 1)])
def test_number_of_groups_divides_the_channels(channels, groups):
    assert group_norm(channels).num_groups == groups


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_match_torch_and_memory_format_is_preserved(memory_format):
    torch.manual_seed(0)
    maps = torch.randn(2, 12, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    weights = torch.randn(2, 12, 5, 6)
    normed = group_norm(12)(maps)
    assert normed.is_contiguous(memory_format=memory_format)
    expected = nn.GroupNorm(4, 12)(maps)
    torch.testing.assert_close(normed, expected)
    (gradient,) = torch.autograd.grad((normed * weights).sum(), maps)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), maps)
    torch.testing.assert_close(gradient, expected_gradient)


def test_single_image_with_a_one_cell_map_can_be_normalized():
    assert group_norm(16)(torch.randn(1, 16, 1, 1)).isfinite().all()
