"""One block of a design, for every order, ratio and position: a chain of layers in parallel to a shortcut."""

import torch
from timm.layers.drop import DropPath
from timm.layers.layer_scale import LayerScale2d
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from backbones.design_space.layers import activation, chain, convolution, norm
from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import AttentionPlan, BlockPlan, Convolution
from backbones.surgery.attention import attention_block

Layers = dict[str, nn.Module]


class DesignBlock(nn.Module):
    """A block: the entry, then branch and shortcut in parallel, their sum, and the exit.

    Names of parameters, where n counts from 1 along the chain of convolutions:

    | name | module |
    |---|---|
    | entry.norm1 | norm before the branch, and before a projection; with the order `pre` only |
    | branch.conv{n}, branch.norm{n} | convolution, and the norm after it (before it with the order `pre`) |
    | branch.attention, exit.attention | attention block in the branch, or after the whole block |
    | branch.layer_scale.gamma | factors before the sum |
    | shortcut.conv, shortcut.norm | projection, where the shape changes |
    """

    def __init__(self, spec: DesignFields, plan: BlockPlan, *, is_deformable: bool) -> None:
        super().__init__()
        branch = _branch(spec, plan, is_deformable)
        first, last = ("norm1", "act1"), f"act{len(plan.convolutions)}"
        entry = {name: branch.pop(name) for name in first if spec.order == "pre" and name in branch}
        exit_ = {name: branch.pop(name) for name in (last,) if spec.order == "post" and name in branch}
        if plan.attention and plan.attention.place == "exit":
            exit_["attention"] = _attention(spec, plan.attention)
        self.is_dense = spec.combination == "concatenate"
        self.has_shortcut = self.is_dense or spec.projection or not plan.changes_shape
        if self.has_shortcut and spec.layer_scale is not None:
            branch["layer_scale"] = LayerScale2d(plan.out_channels, init_values=spec.layer_scale)
        if self.has_shortcut and plan.drop_rate:
            branch["drop_path"] = DropPath(plan.drop_rate)
        is_projected = self.has_shortcut and plan.changes_shape and not self.is_dense
        self.entry = chain(entry)
        self.branch = chain(branch)
        self.shortcut = chain(_projection(spec, plan) if is_projected else {})
        self.exit = chain(exit_)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, H / stride, W / stride) of (B, in_channels, H, W)."""
        entered = self.entry(features)
        new: Tensor = self.branch(entered)
        if self.is_dense:
            new = torch.cat([features, new], dim=1)
        elif self.has_shortcut:
            new = new + (self.shortcut(entered) if len(self.shortcut) else features)
        return self.exit(new)  # type: ignore[no-any-return]


def _branch(spec: DesignFields, plan: BlockPlan, is_deformable: bool) -> Layers:
    """Return all layers of the chain by name, in the order in which they run, including those of entry and exit."""
    is_pre = spec.order == "pre"
    last = len(plan.convolutions) - 1
    layers: Layers = {}
    for place, planned in enumerate(plan.convolutions):
        around: Layers = {}
        if place in plan.normed:
            around[f"norm{place + 1}"] = norm(spec, planned.in_channels if is_pre else planned.out_channels)
        if place in plan.activated:
            around[f"act{place + 1}"] = activation(spec)
        # With the order `pre`, the last convolution feeds the norm at the entry of the next block.
        feeds_norm = (place == last or place + 1 in plan.normed) if is_pre else place in plan.normed
        deforms = is_deformable and planned.kernel > 1
        own: Layers = {f"conv{place + 1}": convolution(spec, planned, feeds_norm=feeds_norm, is_deformable=deforms)}
        layers |= around | own if is_pre else own | around
        if plan.attention and plan.attention.place == "mixing" and place == plan.mixing:
            layers["attention"] = _attention(spec, plan.attention)
    if plan.attention and plan.attention.place == "branch":
        layers["attention"] = _attention(spec, plan.attention)
    return layers


def _attention(spec: DesignFields, plan: AttentionPlan) -> nn.Module:
    block = attention_block(plan.kind, plan.channels, plan.ratio)
    if isinstance(block, SEModule):
        block.act = activation(spec)  # as in EfficientNet; SENet uses ReLU, which is also the network's activation
    return block


def _projection(spec: DesignFields, plan: BlockPlan) -> Layers:
    layers: Layers = {}
    stride = plan.stride
    if spec.downsampling == "average_down" and stride == 2:
        layers["pool"] = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
        stride = 1
    planned = Convolution(plan.in_channels, plan.out_channels, stride=stride)
    layers["conv"] = convolution(spec, planned, feeds_norm=True)
    if spec.order != "pre":
        layers["norm"] = norm(spec, plan.out_channels)
    return layers
