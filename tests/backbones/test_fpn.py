"""The feature pyramid: comparison with torchvision's implementation, and geometry."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from backbones.base import FeatureSpec
from backbones.fpn import FPN

SPECS = {"c3": FeatureSpec(6, 8), "c4": FeatureSpec(10, 16), "c5": FeatureSpec(12, 32)}


def _features(*sizes: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        level: torch.randn(2, spec.channels, *size, generator=generator)
        for (level, spec), size in zip(SPECS.items(), sizes, strict=True)
    }


@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("p6_from", ["p5", "c5"])
@pytest.mark.parametrize(
    "sizes", [((12, 16), (6, 8), (3, 4)), ((42, 63), (21, 32), (11, 16)), ((29, 37), (14, 18), (6, 8))]
)
def test_outputs_equal_torchvision_with_the_same_weights(
    sizes: tuple[tuple[int, int], ...], p6_from: str, norm: str
) -> None:
    ours = FPN(SPECS, channels=8, p6_from=p6_from, norm=norm).eval()
    theirs = FeaturePyramidNetwork(
        [spec.channels for spec in SPECS.values()],
        8,
        extra_blocks=LastLevelP6P7(8 if p6_from == "p5" else 12, 8),
        norm_layer=nn.BatchNorm2d if norm == "bn" else None,
    ).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    features = _features(*sizes)
    outputs = ours(features)
    assert list(outputs) == list(ours.feature_specs) == ["p3", "p4", "p5", "p6", "p7"]
    for output, expected in zip(outputs.values(), theirs(OrderedDict(features)).values(), strict=True):
        torch.testing.assert_close(output, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_maps_of_any_size_are_accepted(height: int, width: int, more_rows: int, more_columns: int) -> None:
    c5, c4 = (height, width), (2 * height + more_rows, 2 * width + more_columns)
    c3 = (2 * c4[0] + more_rows, 2 * c4[1] + more_columns)
    outputs = FPN(SPECS, channels=4, p6_from="p5", norm="none")(_features(c3, c4, c5))
    assert [output.shape[-2:] for output in list(outputs.values())[:3]] == [c3, c4, c5]
    assert outputs["p6"].shape[-2:] == ((height + 1) // 2, (width + 1) // 2)


def test_geometry_extends_that_of_the_backbone() -> None:
    specs = {level: FeatureSpec(spec.channels, spec.stride, offset_px=1.5) for level, spec in SPECS.items()}
    fpn = FPN(specs, channels=8, p6_from="p5", norm="none")
    assert fpn.feature_specs == {
        level: FeatureSpec(8, stride, 1.5)
        for level, stride in zip(("p3", "p4", "p5", "p6", "p7"), (8, 16, 32, 64, 128), strict=True)
    }


def test_cells_of_the_extra_levels_cover_the_image() -> None:
    outputs = FPN(SPECS, channels=4, p6_from="p5", norm="none")(_features((12, 20), (6, 10), (3, 5)))
    for level, cells in (("p6", (2, 3)), ("p7", (1, 2))):
        assert outputs[level].shape[-2:] == cells


@pytest.mark.parametrize("p6_from", ["p5", "c5"])
def test_every_parameter_gets_a_gradient(p6_from: str) -> None:
    fpn = FPN(SPECS, channels=8, p6_from=p6_from, norm="bn")
    sum(output.square().mean() for output in fpn(_features((12, 16), (6, 8), (3, 4))).values()).backward()
    assert all(parameter.grad is not None for parameter in fpn.parameters())


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (2, 2)])
def test_bf16_gradients_agree_with_float32_on_the_smallest_maps(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    specs = {level: FeatureSpec(32, spec.stride) for level, spec in SPECS.items()}
    fpn = FPN(specs, channels=32, p6_from="p5", norm="none")
    height, width = size
    features = {level: torch.randn(2, 32, height * n, width * n) for level, n in (("c3", 4), ("c4", 2), ("c5", 1))}
    outputs = fpn(features)
    (outputs["p6"].sum() + outputs["p7"].sum()).backward()
    expected = {conv: getattr(fpn, conv).weight.grad.clone() for conv in ("p6", "p7")}
    for _ in range(10):
        fpn.zero_grad()
        # A kernel that does not write all of its output may return this freed memory.
        poison = [torch.full((32, 32, 3, 3), float("nan"), dtype=dtype) for dtype in (torch.float, torch.bfloat16) * 20]
        del poison
        with torch.autocast("cpu", torch.bfloat16):
            outputs = fpn(features)
        (outputs["p6"].float().sum() + outputs["p7"].float().sum()).backward()
        for conv, gradient in expected.items():
            torch.testing.assert_close(getattr(fpn, conv).weight.grad, gradient, rtol=0.1, atol=0.1)


def test_convolutions_start_kaiming_uniform_with_zero_biases() -> None:
    torch.manual_seed(0)
    fpn = FPN(
        {level: FeatureSpec(64, spec.stride) for level, spec in SPECS.items()}, channels=64, p6_from="p5", norm="none"
    )
    bound = (3 / (64 * 9)) ** 0.5
    for conv in (fpn.smooth["c3"], fpn.p6):
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
        assert conv.bias is not None
        assert not conv.bias.any()


@pytest.mark.parametrize(("argument", "value"), [("p6_from", "p6"), ("norm", "gn")])
def test_unknown_choice_is_reported_with_valid_ones(argument: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{argument}: got '{value}'; choose "):
        FPN(SPECS, **{"channels": 8, "p6_from": "p5", "norm": "none", argument: value})  # type: ignore[arg-type]


def test_levels_other_than_c3_to_c5_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"got the levels \['c3', 'c4'\]; give \['c3', 'c4', 'c5'\]"):
        FPN({level: SPECS[level] for level in ("c3", "c4")}, channels=8, p6_from="p5", norm="none")
