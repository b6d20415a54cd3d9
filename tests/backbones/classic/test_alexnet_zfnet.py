"""AlexNet and ZFNet, layer by layer."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.classic.alexnet_zfnet import FiveConvolutions, alexnet2012, response_norm, zfnet

IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def divided(feature: Tensor) -> Tensor:
    """Return the responses normalized as in section 3.3: a / (k + alpha * sum of squares of 5 channels) ** beta."""
    squares = F.pad(feature.square(), (0, 0, 0, 0, 2, 2))
    sums = torch.stack([squares[:, k : k + feature.shape[1]] for k in range(5)]).sum(0)
    return feature / (2 + 1e-4 * sums) ** 0.75


def pooled(feature: Tensor) -> Tensor:
    return F.max_pool2d(feature, 3, 2, 1)


def rectified(network: FiveConvolutions, number: int, feature: Tensor) -> Tensor:
    return network.get_submodule(f"conv{number}")(feature).relu()


def test_response_normalization_follows_the_alexnet_paper() -> None:
    responses = torch.linspace(-50, 300, 7).view(1, 7, 1, 1)
    torch.testing.assert_close(response_norm()(responses), divided(responses))


def test_alexnet_normalizes_and_then_pools() -> None:
    network = alexnet2012()
    c3 = rectified(network, 2, pooled(divided(rectified(network, 1, IMAGES))))
    c4 = pooled(divided(c3))
    for number in (3, 4, 5):
        c4 = rectified(network, number, c4)
    torch.testing.assert_close(network(IMAGES), [c3, c4, pooled(c4)])


def test_zfnet_pools_and_then_normalizes() -> None:
    network = zfnet()
    c3 = rectified(network, 2, divided(pooled(rectified(network, 1, IMAGES))))
    c4 = divided(pooled(c3))
    for number in (3, 4, 5):
        c4 = rectified(network, number, c4)
    torch.testing.assert_close(network(IMAGES), [c3, c4, pooled(c4)])


def test_groups_of_alexnet_separate_the_halves_of_a_layer() -> None:
    fourth = alexnet2012().conv4
    third = torch.zeros(1, 384, 5, 5)
    changed = third.clone()
    changed[:, :192] = 1
    difference = (fourth(changed) - fourth(third)).abs().amax(dim=(0, 2, 3))
    assert (difference[:192] > 0).all()
    assert (difference[192:] == 0).all()
