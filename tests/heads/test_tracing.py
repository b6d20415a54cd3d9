"""Traced and exported graphs work for other sizes than the example's."""

import warnings

import pytest
import torch
from torch import nn

from heads.pooling import PyramidRoIAlign, rows_of
from tests.heads.building import build_head

LEVELS = ("p3", "p4")


class Outputs(nn.Module):
    """The outputs of a dense head from which `decode` selects detections."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, features):
        raw = self.head(features)
        return self.head.scores(raw), raw.box_codes, self.head.geometry(raw)


class Pooled(nn.Module):
    """The pooled features of the boxes of two images."""

    def __init__(self, level_specs):
        super().__init__()
        self.roi_align = PyramidRoIAlign({level: level_specs[level] for level in LEVELS})

    def forward(self, features, boxes):
        return self.roi_align(features, rows_of(boxes))


def features_of(height, width, level_specs):
    random = torch.Generator().manual_seed(height)
    strides = {level: int(level_specs[level].stride) for level in LEVELS}
    return {
        level: torch.randn(2, level_specs[level].channels, height // stride, width // stride, generator=random)
        for level, stride in strides.items()
    }


def traced(module, example):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, example, check_trace=False)


def exported(module, example):
    (features,) = example
    sizes = {level: {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} for level in features}
    return torch.export.export(module, example, dynamic_shapes=(sizes,)).module()


@pytest.mark.parametrize("graph_of", [traced, exported])
@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_graph_of_a_dense_head_matches_eager_mode_at_another_size(name, graph_of, level_specs):
    torch.manual_seed(0)
    head = build_head(name, level_specs=level_specs, num_classes=3, num_convs=1, levels=LEVELS)
    outputs = Outputs(head).eval()
    graph = graph_of(outputs, (features_of(64, 96, level_specs),))
    for size_hw in [(64, 96), (128, 160), (32, 64)]:
        features = features_of(*size_hw, level_specs)
        for found, expected in zip(graph(features), outputs(features), strict=True):
            assert torch.equal(found, expected)


def test_graph_of_pooling_matches_eager_mode_for_other_sizes_and_numbers_of_boxes(level_specs):
    pooled = Pooled(level_specs).eval()
    large, small = torch.tensor([[0.0, 0, 90, 60]]), torch.tensor([[8.0, 8, 40, 50], [4, 20, 30, 31]])
    graph = traced(pooled, (features_of(64, 96, level_specs), (large, small)))
    features = features_of(128, 160, level_specs)
    for boxes in [(large, small), (torch.cat((small, large)), large), (small[:0], small)]:
        assert torch.equal(graph(features, boxes), pooled(features, boxes))
