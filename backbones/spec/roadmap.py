"""The roadmap from ResNet-50 to ConvNeXt-T (Liu et al. 2022, arXiv 2201.03545, fig. 2): each step changes one field.

Torch-free.

The paper's steps have the costs in its figure. They are followed by two steps without cost, layer scale and the
initialization, which the paper's training recipe includes from the start. The result is the preset convnext_tiny.

Deviations from the paper: "fewer activations" selects ConvNeXt's block order, which has one activation per block. The
layers between stages keep their norm in all steps. The stem loses its activation in the step "patchify".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbones.spec.design import DesignSpec

START = "resnet50"
END = "convnext_tiny"


@dataclass(frozen=True)
class RoadmapStep:
    """One step of the roadmap.

    Attributes:
        name: the paper's name of the step.
        change: the field that changes, and its new value.
        paper_gmacs: the cost in the paper's figure; None for steps that the figure does not have.
    """

    name: str
    change: Mapping[str, Any]
    paper_gmacs: float | None


ROADMAP = (
    RoadmapStep("ResNet-50", {}, 4.09),
    RoadmapStep("stage ratio", {"depths": (3, 3, 9, 3)}, 4.53),
    RoadmapStep("patchify", {"stem": "patchify"}, 4.42),
    RoadmapStep("depthwise", {"groups": "depthwise"}, 2.35),
    RoadmapStep("width", {"widths": (96, 192, 384, 768)}, 5.27),
    RoadmapStep("inverted bottleneck", {"ratio": 4.0}, 4.64),
    RoadmapStep("depthwise moved up", {"mixing": "first"}, 4.07),
    RoadmapStep("kernel 7", {"kernel": 7}, 4.15),
    RoadmapStep("GELU", {"activation": "gelu"}, 4.15),
    RoadmapStep("fewer activations", {"order": "convnext"}, 4.15),
    RoadmapStep("fewer norms", {"norms": 1}, 4.15),
    RoadmapStep("LayerNorm", {"norm": "ln"}, 4.15),
    RoadmapStep("separate downsampling", {"downsampling": "separate"}, 4.46),
    RoadmapStep("layer scale", {"layer_scale": 1e-6}, None),
    RoadmapStep("truncated normal", {"initialization": "truncated_normal"}, None),
)


def roadmap_designs() -> list[tuple[RoadmapStep, DesignSpec]]:
    """Return every step with its network: the preset `START` with all changes up to and including that step."""
    fields: dict[str, Any] = {"preset": START}
    designs = []
    for step in ROADMAP:
        fields |= step.change
        designs.append((step, DesignSpec.model_validate(fields)))
    return designs
