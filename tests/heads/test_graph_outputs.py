"""What a graph computes of a head, and the decoder, are the same predictions as those of the head.

The functions of graphs run here as they are, without ONNX.
"""

import pytest
import torch

from heads.create import decode_graph_outputs
from heads.pooling import rows_of
from tests.heads.cases import CASES, DETECTORS, SIZES, trained_head_of

LOW = {"candidates_per_level": 20, "max_detections": 7}
BOXES = [torch.tensor([[0.0, 0, 30, 40]]), torch.tensor([[10.0, 10, 90, 60], [0, 0, 20, 20]])]


def check_equal(found, expected):
    assert len(found) == len(expected)
    for own, other in zip(found, expected, strict=True):
        assert type(own) is type(other)
        for name, values in vars(other).items():
            if isinstance(values, torch.Tensor):
                assert vars(own)[name].dtype == values.dtype
                torch.testing.assert_close(vars(own)[name], values)
            else:
                assert vars(own)[name] == values


@pytest.mark.parametrize(
    ("case", "nms", "limits"),
    [
        *((case, "outside", {}) for case in CASES),
        *(
            (case, nms, limits)
            for case in DETECTORS
            for nms, limits in (("inside", {}), ("inside", LOW), ("outside", LOW))
        ),
    ],
)
def test_graph_of_a_head_gives_its_predictions(case, nms, limits, level_specs, make_features):
    head = trained_head_of(case, level_specs, **limits)
    sizes_hw = torch.tensor(SIZES)
    with torch.no_grad():
        raw = head(make_features(2))
        if nms == "inside":
            outputs = head.graph_detections(raw, sizes_hw)
        else:
            outputs = head.graph_outputs(raw, sizes_hw, rows_of(BOXES) if head.needs_boxes else None)
        expected = head.decode(raw, SIZES, BOXES)
    assert head.finds_objects == (case in DETECTORS)
    assert case not in DETECTORS or all(len(prediction.scores) > 5 for prediction in expected)
    check_equal(decode_graph_outputs(head.spec, outputs, SIZES), expected)
