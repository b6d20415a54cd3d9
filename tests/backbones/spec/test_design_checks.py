"""Invalid designs are rejected with the field, a reason and a valid choice."""

from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.spec.load import read_document, validate_document

R50, DENSE, CONVNEXT, MOBILE = (
    {"preset": name} for name in ("resnet50", "densenet121", "convnext_tiny", "mobilenet_v2")
)

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"preset": "resnet5"}, "preset: got 'resnet5'; choose convnext_atto, convnext_tiny"),
    ({"preset": ["resnet50"]}, r"preset: got \['resnet50'\]; choose"),
    ({"norm": "gn"}, r"depths: missing; give the blocks of each stage, such as \[3, 4, 6, 3\], or a preset"),
    ({"depths": [2, 2, 2, 2]}, r"widths: missing; give the channels of each stage, such as \[64, 128, 256, 512\]"),
    (R50 | {"depths": [3, 4, 6]}, "widths: got 4 values, but depths has 3 stages; give one value per stage"),
    (R50 | {"strides": [1, 2, 2]}, "strides: got 3 values, but depths has 4 stages"),
    (R50 | {"kernel": [3, 5]}, "kernel: got 2 values, but depths has 4 stages"),
    (R50 | {"ratio": [0.25]}, "ratio: got 1 values, but depths has 4 stages"),
    (R50 | {"attention": {"kind": "se", "ratio": [0.1]}}, "attention.ratio: got 1 values, but depths has 4 stages"),
    (R50 | {"strides": [1, 2, 2, 1]}, r"strides: got \[1, 2, 2, 1\]; .* \[4, 8, 16, 16\], .* the product 8"),
    (
        R50 | {"strides": [2, 2, 2, 2]},
        r"strides: .* \[8, 16, 32, 64\], but a pyramid needs 8, 16 and 32 and no larger one",
    ),
    (R50 | {"stem": "3x3"}, r"strides: .*after the stem's stride of 2 .* the product 16"),
    (R50 | {"kernel": 4}, "kernel: got 4; an even kernel shifts the map, choose 3, 5, 7, 9 or 11"),
    (R50 | {"kernel": 13}, "kernel: got 13; should be less than or equal to 11"),
    (
        R50 | {"widths": [4096] * 4, "kernel": 11},
        "widths: the convolutions have .* billion .* at most 2 billion are allowed",
    ),
    (DENSE | {"growth": 200, "compound": 8}, "growth: the convolutions have 17.6 billion parameters"),
    (R50 | {"growth": 32}, "growth: got 32 with combination: add; write combination: concatenate"),
    (R50 | {"combination": "concatenate"}, "growth: missing; concatenate needs .* such as 32"),
    (
        R50 | {"combination": "concatenate", "growth": 8},
        "widths: got .* the channels follow from growth: remove widths",
    ),
    (DENSE | {"order": "post"}, "order: got 'post'; concatenate needs 'pre'"),
    (DENSE | {"downsampling": "separate"}, "downsampling: got 'separate'; concatenate needs 'pool'"),
    (DENSE | {"mixing": "first"}, "mixing: got 'first'; concatenate needs 'middle'"),
    (DENSE | {"ratio_of": "input"}, "ratio_of: got 'input'; concatenate needs 'output'"),
    (DENSE | {"groups": "depthwise"}, "groups: got 'depthwise', .* choose a number"),
    (DENSE | {"ratio": 0.25}, "ratio: got 0.25; .* choose at least 1"),
    (DENSE | {"layer_scale": 1e-6}, "layer_scale: got 1e-06; concatenate has no sum: remove layer_scale"),
    (DENSE | {"stochastic_depth": 0.1}, "stochastic_depth: got 0.1; .* write 0"),
    (R50 | {"mixing": "first"}, "mixing: got 'first' with groups 1 and ratio 0.25; .* write groups: depthwise"),
    (CONVNEXT | {"groups": 1}, "mixing: got 'first' with groups 1 and ratio 4"),
    (R50 | {"ratio_of": "input"}, "ratio_of: got 'input' with ratio 0.25; for a ratio below 1 write 'output'"),
    (R50 | {"ratio": 0.3}, "ratio: got 0.3; 64 / 0.3 is not a whole number of channels: choose a divisor such as 1/4"),
    (MOBILE | {"downsampling": "average_down"}, "projection: got false; .* write true, or downsampling: in_block"),
    (R50 | {"groups": 7}, "groups: got 7; it does not divide the 64 channels .* in stage 1: choose a divisor"),
    (R50 | {"groups": "deep"}, "groups: got 'deep'; .*choose 'depthwise'"),
    (R50 | {"norm": "gn", "norm_groups": 48}, "norm_groups: got 48; it does not divide the 64 channels of the stem"),
    (CONVNEXT | {"norm": "gn", "norm_groups": 64}, "norm_groups: got 64; it does not divide the 96 channels"),
    (R50 | {"deformable": [4, 3, 4]}, "deformable: got .4, 3, 4.; list each stage once"),
    (R50 | {"deformable": [5]}, "deformable: got stage 5; the network has the stages 1 to 4"),
    (CONVNEXT | {"deformable": [3]}, "deformable: got depthwise convolutions, .* choose a number of groups"),
    (R50 | {"attention": {"kind": "se", "stages": [5]}}, "attention.stages: got stage 5; .* the stages 1 to 4"),
    (R50 | {"attention": "nl"}, "attention.stages: got stage 1 for nl, where .* choose from 2, 3, 4"),
    (R50 | {"attention": {"kind": "se", "ratio": 0.001}}, "attention.ratio: got 0.001, .* choose at least 0.00391"),
    (
        MOBILE | {"attention": {"kind": "gc", "position": "before_last_block"}},
        "attention.position: got 'before_last_block', but stage 1 has a single block; choose 'last_block'",
    ),
    (R50 | {"attention": "cbam"}, "attention: got 'cbam'; choose 'se', 'gc' or 'nl'"),
    (R50 | {"stem": "8x8"}, "stem: got '8x8'; choose '7x7', 'deep', 'patchify', '11x11' or '3x3'"),
    (R50 | {"color": 3}, "color: unknown key; known are activation, activations, attention"),
]


@pytest.mark.parametrize(("design", "message"), INVALID)
def test_invalid_design_is_rejected_with_field_and_remedy(design: dict[str, Any], message: str) -> None:
    document = read_document("recipe:demo")
    document["model"]["backbone"] = {"design": design}
    with pytest.raises(ConfigError, match=rf"^model\.backbone\.design\.{message}"):
        validate_document(document)


def test_valid_design_is_accepted() -> None:
    document = read_document("recipe:demo")
    document["model"]["backbone"] = {"design": R50 | {"attention": {"kind": "nl", "stages": [3, 4]}}}
    assert validate_document(document).model.backbone.label == "design:resnet50+attention"
