import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from backbones.surgery.same_padding import fix_same_padding


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"),
    [(3, 1, 1, 1), (5, 1, 1, 4), (3, 2, 1, 1), (5, 2, 1, 4), (1, 2, 1, 1), (3, 1, 2, 1), (7, 4, 1, 1)],
)
def test_fixed_padding_gives_the_same_maps(kernel, stride, dilation, groups):
    conv = Conv2dSame(4, 8, kernel, stride=stride, dilation=dilation, groups=groups)
    maps = torch.randn(2, 4, 24, 32)
    expected = conv(maps)
    fix_same_padding(nn.Sequential(conv))
    assert type(conv) is not Conv2dSame
    torch.testing.assert_close(conv(maps), expected)


def test_symmetric_padding_becomes_a_plain_convolution():
    conv = Conv2dSame(4, 8, 3)
    fix_same_padding(nn.Sequential(conv))
    assert type(conv) is nn.Conv2d
    assert conv.padding == (1, 1)


def test_a_fixed_network_keeps_its_parameters():
    network = nn.Sequential(Conv2dSame(4, 8, 3, stride=2), nn.Conv2d(8, 8, 3, padding="same"))
    names, plain = list(network.state_dict()), network[1]
    fix_same_padding(network)
    assert list(network.state_dict()) == names
    assert plain.padding == "same"
