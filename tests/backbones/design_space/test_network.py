"""Properties of every design."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from backbones.create import TappedBackbone, create_backbone
from backbones.design_space.network import DesignExtractor
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.design_plan import STEM_STRIDES

TINY = {"depths": (1, 1, 2, 2), "widths": (16, 16, 24, 32), "norm_groups": 4}

ELEMENTS: list[dict[str, Any]] = [
    {},
    {"stem": "deep"},
    {"stem": "patchify"},
    {"stem": "11x11"},
    {"stem": "3x3", "strides": (2, 2, 2, 2)},
    {"stem_width": 24},
    {"order": "pre"},
    {"order": "convnext"},
    {"groups": 4},
    {"groups": "depthwise"},
    {"groups": "depthwise", "ratio": 4, "mixing": "first"},
    {"ratio": 1 / 4},
    {"ratio": 4},
    {"ratio": (1, 1 / 2, 2, 6)},
    {"ratio": 6, "ratio_of": "input"},
    {"kernel": 11},
    {"kernel": (3, 5, 7, 9)},
    {"deformable": (2, 4), "kernel": 5},
    {"deformable": (1, 3), "ratio": 1 / 4, "groups": 2},
    {"norm": "gn"},
    {"norm": "ln"},
    {"norms": 1},
    {"norms": 1, "order": "pre"},
    {"activation": "relu6"},
    {"activation": "silu"},
    {"activation": "gelu"},
    {"activations": 1},
    {"activations": 1, "order": "pre", "ratio": 1 / 4},
    {"activations": 2, "order": "convnext", "ratio": 1 / 4},
    {"downsampling": "average_down"},
    {"downsampling": "separate"},
    {"downsampling": "pool"},
    {"projection": False},
    *({"attention": {"kind": kind, "stages": (3, 4)}} for kind in ("se", "gc", "nl")),
    *(
        {"attention": {"kind": "gc", "position": position, "stages": (3, 4)}}
        for position in ("residual", "mixing", "every_block", "before_last_block", "last_block")
    ),
    {"attention": {"kind": "se", "ratio": (1, 1 / 2, 1 / 4, 1 / 8)}},
    {"widths": None, "combination": "concatenate", "growth": 8, "order": "pre", "downsampling": "pool"},
    {"widths": None, "combination": "concatenate", "growth": 8, "order": "pre", "downsampling": "pool", "ratio": 4},
    {"layer_scale": 0.1},
    {"layer_scale": 0.1, "projection": False},
    {"stochastic_depth": 0.5},
    {"initialization": "truncated_normal"},
    {"compound": 1.5},
]


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
def test_each_element_produces_a_trainable_backbone(element: dict[str, Any]) -> None:
    torch.manual_seed(0)
    spec = DesignSpec.model_validate(TINY | element)
    backbone = create_backbone(spec)
    features = backbone(torch.randn(3, 3, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in features.values()] == [(8, 12), (4, 6), (2, 3)]
    sum(feature.square().sum() for feature in features.values()).backward()  # type: ignore[union-attr]
    without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert without == []


def test_every_field_is_covered_by_an_element() -> None:
    assert {field for element in ELEMENTS for field in element} | TINY.keys() | {"preset"} == {*DesignSpec.model_fields}


def by_stage(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.tuples(*[values] * 4)


DESIGNS = st.fixed_dictionaries(
    {
        "depths": st.tuples(*[st.integers(1, 3)] * 4),
        "stem": st.sampled_from([stem for stem, stride in STEM_STRIDES.items() if stride == 4]),
        "order": st.sampled_from(["post", "pre", "convnext"]),
        "kernel": by_stage(st.sampled_from([3, 5, 7, 11])),
        "norm": st.sampled_from(["bn", "gn", "ln"]),
        "norm_groups": st.sampled_from([1, 4]),
        "norms": st.none() | st.integers(1, 3),
        "activation": st.sampled_from(["relu", "relu6", "silu", "gelu"]),
        "activations": st.none() | st.integers(1, 3),
        "downsampling": st.sampled_from(["in_block", "average_down", "separate", "pool"]),
        "projection": st.booleans(),
        "attention": st.none()
        | st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["se", "gc", "nl"]),
                "position": st.sampled_from(["residual", "mixing", "every_block", "before_last_block", "last_block"]),
                "stages": st.none() | st.sampled_from([(2,), (3, 4), (2, 4)]),
            }
        ),
        "layer_scale": st.none() | st.just(1e-6),
        "stochastic_depth": st.sampled_from([0.0, 0.3]),
        "initialization": st.sampled_from(["kaiming", "truncated_normal"]),
        "compound": st.sampled_from([0.0, 1.0]),
    },
    optional={"deformable": st.sampled_from([(), (1,), (2, 4)])},
)
SUM = {"combination": st.just("add"), "widths": st.tuples(*[st.sampled_from([16, 32])] * 4)}
PLAIN = SUM | {
    "groups": st.sampled_from([1, 2, "depthwise"]),
    "ratio": by_stage(st.sampled_from([1 / 4, 1 / 2, 1, 4])),
    "mixing": st.sampled_from(["middle", "first"]),
}
INVERTED = SUM | {
    "groups": st.just("depthwise"),
    "ratio": by_stage(st.sampled_from([2, 4, 6])),
    "ratio_of": st.sampled_from(["output", "input"]),
    "mixing": st.sampled_from(["middle", "first"]),
}
CONCATENATION = {
    "combination": st.just("concatenate"),
    "growth": st.sampled_from([4, 8]),
    "groups": st.sampled_from([1, 2]),
    "ratio": by_stage(st.sampled_from([1, 4])),
    "order": st.just("pre"),
    "downsampling": st.just("pool"),
    "stochastic_depth": st.just(0.0),
    "layer_scale": st.none(),
}
KINDS = st.one_of(st.fixed_dictionaries(kind) for kind in (PLAIN, INVERTED, CONCATENATION))


@settings(max_examples=20, deadline=None)
@given(design=DESIGNS, kind=KINDS)
def test_random_design_is_either_rejected_by_field_or_a_valid_backbone(
    design: dict[str, Any], kind: dict[str, Any]
) -> None:
    try:
        spec = DesignSpec.model_validate(design | kind)
    except ValidationError as error:
        field = str(error.errors()[0]["ctx"]["error"]).split(":")[0]
        assert field.split(".")[0] in DesignSpec.model_fields
        return
    assert DesignSpec.model_validate_json(spec.model_dump_json()) == spec
    with built_on_meta():
        backbone = TappedBackbone(DesignExtractor(spec))
    assert list(backbone.stages) == [name for name, _ in backbone.named_parameters()]
    planned = {stage.stride: stage.out_channels for stage in spec.stages}
    assert [backbone.feature_specs[level].channels for level in ("c3", "c4", "c5")] == [
        planned[stride] for stride in (8, 16, 32)
    ]
