"""The network that a design describes."""

from collections.abc import Mapping

from torch import Tensor, nn

from backbones.catalog.row import BackboneRow
from backbones.design_space.blocks import DesignBlock
from backbones.design_space.key_maps import rename_published
from backbones.design_space.layers import activation, chain, convolution, norm
from backbones.design_space.stem import build_stem
from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD, FeatureExtractor
from backbones.geometry import PYRAMID_STRIDES
from backbones.spec.design import DesignSpec
from backbones.spec.design_plan import StagePlan


class DesignNetwork(nn.Module):
    """A stem and stages, without a classifier.

    Names of parameters: `stem.conv{n}` and `stem.norm{n}`, with n from 1; `stages.{i}.entry.norm` and
    `stages.{i}.entry.conv` for the layers between the stages; `stages.{i}.{j}.` followed by the names of `DesignBlock`,
    with i and j from 0; `exit.norm` of `concatenate`.

    Attributes:
        strides: strides of the maps of the stages.
    """

    def __init__(self, spec: DesignSpec) -> None:
        super().__init__()
        plans = spec.stages
        self.strides = [plan.stride for plan in plans]
        self.stem = build_stem(spec)
        self.stages = nn.ModuleList(
            _stage(spec, plan, is_deformable=number in spec.deformable) for number, plan in enumerate(plans, start=1)
        )
        # Concatenated maps are not normalized: the norm is in the next transition, or in the exit for the last stage.
        is_dense = spec.combination == "concatenate"
        self.exit = chain({"norm": norm(spec, plans[-1].out_channels), "act": activation(spec)} if is_dense else {})

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all stages, finest first, each (B, C, H / stride, W / stride)."""
        maps = []
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return [*maps[:-1], self.exit(maps[-1])]


def _stage(spec: DesignSpec, plan: StagePlan, *, is_deformable: bool) -> nn.Sequential:
    """Return the entry of a stage, which downsamples its input, followed by its blocks.

    | downsampling | entry |
    |---|---|
    | in_block, average_down | none |
    | separate | norm and 2x2 convolution with stride 2; 1x1 if only the channels change (ConvNeXt) |
    | pool | mean of 2x2 cells |
    | pool with `concatenate` | norm, activation, 1x1 convolution to half the channels, mean of 2x2 cells (DenseNet) |
    """
    entry: dict[str, nn.Module] = {}
    if plan.entry:
        entry["norm"] = norm(spec, plan.in_channels)
        if spec.combination == "concatenate":
            entry["act"] = activation(spec)
        entry["conv"] = convolution(spec, plan.entry, feeds_norm=spec.order == "pre")
    if plan.is_pooled:
        entry["pool"] = nn.AvgPool2d(2)
    layers: dict[str, nn.Module] = {"entry": chain(entry)} if entry else {}
    for number, block in enumerate(plan.blocks):
        layers[str(number)] = DesignBlock(spec, block, is_deformable=is_deformable)
    return chain(layers)


class DesignExtractor(FeatureExtractor):
    """A design that returns the maps of the last stages with strides 8, 16 and 32."""

    network: DesignNetwork

    def __init__(self, spec: DesignSpec) -> None:
        super().__init__(DesignNetwork(spec), IMAGENET_MEAN, IMAGENET_STD)
        self.spec = spec

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        last = dict(zip(self.network.strides, self.network(images), strict=True))
        return [last[stride] for stride in PYRAMID_STRIDES]

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict from timm, torchvision or a design, with the parameter names of `network`."""
        return rename_published(self.spec, state, self.network.state_dict())


def build_design_extractor(row: BackboneRow) -> DesignExtractor:
    """Build the design in `row.kwargs`, or the preset that `row.id` names, with random weights."""
    return DesignExtractor(row.kwargs.get("design") or DesignSpec.model_validate({"preset": row.id}))
