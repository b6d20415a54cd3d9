"""Surgery on a network of timm that is built: the names of what it has stay, so that its weights stay of use.

A block belongs to the level ck whose stride, 2**k, its map has; that is measured. For ResNet, c2 is `layer1` and c5 is
`layer4`; for EfficientNet, two of its groups of blocks are c4.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from timm.layers.non_local_attn import NonLocalAttn
from timm.layers.norm_act import freeze_batch_norm_2d
from timm.models import byobnet, convnext, regnet, resnet, resnetv2
from timm.models._efficientnet_blocks import ConvBnAct, DepthwiseSeparableConv, EdgeResidual, InvertedResidual
from torch import Tensor, nn

from backbones.catalog.row import BackboneRow
from backbones.feature_extractor import FeatureExtractor
from backbones.geometry import PROBE_HW, stride_of
from backbones.meta_device import run_on_meta
from backbones.spec.surgery import AttentionSpec, SurgerySpec
from backbones.surgery.attention import attention_block
from backbones.surgery.deformable import DeformableConv2d


@dataclass(frozen=True)
class _Anatomy:
    """Where a kind of block is operated on; None: nowhere.

    Attributes:
        convolution: its convolution of 3x3 cells; of two, the second.
        slot: the part that the residual passes last, before the shortcut is added. It has no parameters.
    """

    convolution: str | None = None
    slot: str | None = None


_ANATOMIES: dict[type[nn.Module], _Anatomy] = {
    resnet.BasicBlock: _Anatomy("conv2", "se"),
    resnet.Bottleneck: _Anatomy("conv2", "se"),
    resnetv2.PreActBasic: _Anatomy("conv2", "drop_path"),
    resnetv2.PreActBottleneck: _Anatomy("conv2", "drop_path"),
    regnet.Bottleneck: _Anatomy("conv2.conv", "drop_path"),
    convnext.ConvNeXtBlock: _Anatomy(slot="drop_path"),
    ConvBnAct: _Anatomy(slot="drop_path"),
    DepthwiseSeparableConv: _Anatomy(slot="drop_path"),
    InvertedResidual: _Anatomy(slot="drop_path"),
    EdgeResidual: _Anatomy(slot="drop_path"),
    byobnet.RepVggBlock: _Anatomy(),
    byobnet.MobileOneBlock: _Anatomy(),
}
"""What is added last to RepVGG's blocks is folded away, so it is no place for attention."""


@dataclass(frozen=True)
class _Block:
    """A block of a built network: its name there, the level that it belongs to, and the channels of its map."""

    name: str
    module: nn.Module
    level: str
    channels: int

    @property
    def anatomy(self) -> _Anatomy:
        return _ANATOMIES[type(self.module)]


def with_stochastic_depth(row: BackboneRow, surgery: SurgerySpec) -> BackboneRow:
    """Return `row` with what `surgery` asks of its constructor."""
    if surgery.stochastic_depth is None:
        return row
    argument = "stochastic_depth_prob" if row.source == "tv" else "drop_path_rate"
    return replace(row, kwargs={**row.kwargs, argument: surgery.stochastic_depth})


def apply_surgery(body: FeatureExtractor, surgery: SurgerySpec) -> None:
    """Put deformable convolutions and attention into the network of `body`.

    Raises:
        ValueError: it has no such place.
    """
    if not surgery.deformable and not surgery.attention:
        return
    blocks = _blocks(body)
    for block in (block for stage in surgery.deformable for block in _of_stage(blocks, stage)):
        _make_deformable(block)
    for spec in surgery.attention:
        for stage in spec.stages:
            _put_attention(body.network, _of_stage(blocks, stage), spec, stage)


def freeze_batch_norms(module: nn.Module) -> int:
    """Turn every BatchNorm inside `module` into one whose statistics and scales are buffers, and return how many.

    The norm behind a non-local block is left out: it starts at zero, and would keep the block from ever learning.
    """
    num_frozen = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
            frozen: nn.Module = freeze_batch_norm_2d(child)  # type: ignore[no-untyped-call]
            module.add_module(name, frozen)
            num_frozen += 1
        elif not isinstance(child, NonLocalAttn):
            num_frozen += freeze_batch_norms(child)
    return num_frozen


def _blocks(body: FeatureExtractor) -> list[_Block]:
    """Return the blocks whose kind is known, in the order in which they run."""
    found: list[_Block] = []

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        stride = stride_of(PROBE_HW, output.shape[-2:])
        if stride is not None:
            found.append(_Block(name, module, f"c{stride.bit_length() - 1}", output.shape[1]))

    handles = [
        module.register_forward_hook(lambda module, _inputs, output, name=name: record(name, module, output))
        for name, module in body.network.named_modules()
        if type(module) in _ANATOMIES
    ]
    try:
        run_on_meta(body, PROBE_HW)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _of_stage(blocks: list[_Block], stage: str) -> list[_Block]:
    of_stage = [block for block in blocks if block.level == stage]
    if not of_stage:
        raise ValueError(f"it has no blocks in {stage}; choose from {sorted({block.level for block in blocks})}")
    return of_stage


def _make_deformable(block: _Block) -> None:
    path = block.anatomy.convolution
    convolution = None if path is None else block.module.get_submodule(path)
    if path is None or type(convolution) is not nn.Conv2d:
        raise ValueError(f"{block.name} has no plain convolution of 3x3 cells; leave `deformable` out")
    block.module.set_submodule(path, DeformableConv2d.standing_for(convolution))


def _put_attention(network: nn.Module, blocks: list[_Block], spec: AttentionSpec, stage: str) -> None:
    """Put the blocks of one stage where `spec` says."""
    if spec.position == "residual":
        with_shortcut = [block for block in blocks if block.anatomy.slot and getattr(block.module, "has_skip", True)]
        if not with_shortcut:
            raise ValueError(f"no block in {stage} has a place before its shortcut is added; choose another position")
        for block in with_shortcut:
            _fill_slot(block, _attention_for(block, spec))
        return
    if spec.position == "before_last_block" and len(blocks) < 2:
        raise ValueError(f"{stage} has a single block, and none before the last; choose the position last_block")
    behind = {"every_block": blocks, "before_last_block": blocks[-2:-1], "last_block": blocks[-1:]}[spec.position]
    for block in behind:
        _put_behind(network, block.name, _attention_for(block, spec))


def _attention_for(block: _Block, spec: AttentionSpec) -> nn.Module:
    device = next(block.module.parameters()).device
    return attention_block(spec.kind, block.channels, spec.inner_ratio).to(device)


def _fill_slot(block: _Block, attention: nn.Module) -> None:
    slot = block.anatomy.slot
    assert slot is not None
    there = getattr(block.module, slot)
    if there is not None and any(True for _ in there.parameters()):
        raise ValueError(f"{block.name} has attention before its shortcut already; choose another position")
    if there is not None:
        attention = nn.Sequential(OrderedDict(attention=attention, drop_path=there))
    setattr(block.module, slot, attention)


def _put_behind(network: nn.Module, name: str, attention: nn.Module) -> None:
    """Put `attention` behind a block in its container, under a name of its own: numbers of other blocks stay."""
    container_name, _, block_name = name.rpartition(".")
    container = network.get_submodule(container_name)
    for child_name, child in list(container.named_children()):
        delattr(container, child_name)
        container.add_module(child_name, child)
        if child_name == block_name:
            container.add_module(f"{block_name}_attention", attention)
