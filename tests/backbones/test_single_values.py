"""BatchNorm layers train on batches of one value per channel."""

import copy

import pytest
import torch
from torch import nn

from backbones.single_values import accept_single_values


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    model[2].running_mean.fill_(0.5)
    accept_single_values(model)
    return model


def test_one_value_is_normalized_by_the_running_statistics_and_leaves_them_unchanged() -> None:
    model = network()
    images = torch.rand(1, 3, 8, 8)
    before = copy.deepcopy(model.state_dict())
    outputs = model(images)
    outputs.sum().backward()
    assert model[2].training
    assert torch.equal(outputs, copy.deepcopy(model).eval()(images))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_other_batches_give_the_same_bits_as_without() -> None:
    model = network()
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    plain.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(model(images), plain(images))
    assert torch.equal(model[2].running_var, plain[2].running_var)


def test_layer_trains_again_after_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError):
        model[2](torch.rand(1, 5, 1, 1))
    assert model[2].training
