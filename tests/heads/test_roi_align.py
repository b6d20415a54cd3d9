"""RoIAlign on the CPU equals torchvision's."""

import pytest
import torch
from torchvision import ops

from heads.roi_align import roi_align


def rois_of(count, generator):
    """Return boxes (R, 5) of two images, of less than a cell to more than the map, some of them outside of it."""
    images = torch.randint(0, 2, (count, 1), generator=generator).float()
    low = torch.rand((count, 2), generator=generator) * 140 - 30
    return torch.cat((images, low, low + torch.rand((count, 2), generator=generator) ** 3 * 200), dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "ratio"), [(7, 2), (3, 1), (2, 3)])
def test_values_and_gradients_equal_torchvision(size, ratio, aligned):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn((2, 5, 9, 12), generator=generator).requires_grad_()]
    maps.append(maps[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_())
    rois = rois_of(200, generator)
    weights = torch.randn((200, 5, size, size), generator=generator)
    found = roi_align(maps[1], rois, size, 1 / 8, ratio, aligned)
    expected = ops.roi_align(maps[0], rois, size, 1 / 8, ratio, aligned)
    assert (expected == 0).any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for result in (found, expected):
        (result * weights).sum().backward()
    torch.testing.assert_close(maps[1].grad, maps[0].grad, rtol=1e-4, atol=1e-4)


def test_no_boxes_give_an_empty_result_that_is_connected_to_the_maps():
    maps = torch.randn(1, 4, 3, 3, requires_grad=True)
    found = roi_align(maps, torch.zeros(0, 5), 7, 1 / 8, 2, True)
    assert found.shape == (0, 4, 7, 7)
    found.sum().backward()
    assert maps.grad.abs().sum() == 0
