"""Surgery on a built timm network. Existing parameter names do not change, so the network's weights still fit.

A block belongs to the level ck if its map has the stride 2**k, which is measured. For ResNet, c2 is `layer1` and c5 is
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
    """The places for surgery in a kind of block; None if it has no such place.

    Attributes:
        convolution: name of its 3x3 convolution, or of the second one if it has two.
        slot: name of the last module of the residual branch, before the shortcut is added. It has no parameters.
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
"""RepVGG's and MobileOne's blocks have no slot because their branches are folded."""


@dataclass(frozen=True)
class _FoundBlock:
    """A block of a built network: its name, its level, and the channels of its map."""

    name: str
    module: nn.Module
    level: str
    channels: int

    @property
    def anatomy(self) -> _Anatomy:
        return _ANATOMIES[type(self.module)]


def with_stochastic_depth(row: BackboneRow, surgery: SurgerySpec) -> BackboneRow:
    """Return `row` with the constructor argument for stochastic depth, if `surgery` requests it."""
    if surgery.stochastic_depth is None:
        return row
    argument = "stochastic_depth_prob" if row.source == "tv" else "drop_path_rate"
    return replace(row, kwargs={**row.kwargs, argument: surgery.stochastic_depth})


def apply_surgery(body: FeatureExtractor, surgery: SurgerySpec) -> None:
    """Insert the deformable convolutions and attention blocks of `surgery` into the network of `body`.

    Raises:
        ValueError: the network has no place for one of them.
    """
    if not surgery.deformable and not surgery.attention:
        return
    blocks = _blocks(body)
    for block in (block for stage in surgery.deformable for block in _of_stage(blocks, stage)):
        _make_deformable(block)
    for spec in surgery.attention:
        for stage in spec.stages:
            _insert_attention(body.network, _of_stage(blocks, stage), spec, stage)


def freeze_batch_norms(module: nn.Module) -> int:
    """Freeze every BatchNorm inside `module` by turning its statistics and scales into buffers; return their number.

    The norm of a non-local block is not frozen: it starts at zero, so the block could never learn.
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


def _blocks(body: FeatureExtractor) -> list[_FoundBlock]:
    """Return the blocks of the kinds in `_ANATOMIES`, in the order in which they run."""
    found: list[_FoundBlock] = []

    def record(name: str, module: nn.Module, output: Tensor) -> None:
        stride = stride_of(PROBE_HW, output.shape[-2:])
        if stride is not None:
            found.append(_FoundBlock(name, module, f"c{stride.bit_length() - 1}", output.shape[1]))

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


def _of_stage(blocks: list[_FoundBlock], stage: str) -> list[_FoundBlock]:
    of_stage = [block for block in blocks if block.level == stage]
    if not of_stage:
        levels = sorted({block.level for block in blocks})
        raise ValueError(f"the network has no blocks in {stage}; choose from {levels}")
    return of_stage


def _make_deformable(block: _FoundBlock) -> None:
    path = block.anatomy.convolution
    convolution = None if path is None else block.module.get_submodule(path)
    if path is None or type(convolution) is not nn.Conv2d:
        raise ValueError(f"{block.name} has no plain 3x3 convolution; remove `deformable`")
    block.module.set_submodule(path, DeformableConv2d.replacing(convolution))


def _insert_attention(network: nn.Module, blocks: list[_FoundBlock], spec: AttentionSpec, stage: str) -> None:
    """Insert the attention blocks of one stage at the position of `spec`."""
    if spec.position == "residual":
        with_shortcut = [block for block in blocks if block.anatomy.slot and getattr(block.module, "has_skip", True)]
        if not with_shortcut:
            raise ValueError(
                f"attention: the blocks in {stage} have no place before the shortcut; choose another position"
            )
        for block in with_shortcut:
            _fill_slot(block, _attention_for(block, spec))
        return
    if spec.position == "before_last_block" and len(blocks) < 2:
        raise ValueError(f"attention: {stage} has a single block; choose the position last_block")
    chosen = {"every_block": blocks, "before_last_block": blocks[-2:-1], "last_block": blocks[-1:]}[spec.position]
    for block in chosen:
        _insert_after(network, block.name, _attention_for(block, spec))


def _attention_for(block: _FoundBlock, spec: AttentionSpec) -> nn.Module:
    device = next(block.module.parameters()).device
    return attention_block(spec.kind, block.channels, spec.inner_ratio).to(device)


def _fill_slot(block: _FoundBlock, attention: nn.Module) -> None:
    slot = block.anatomy.slot
    assert slot is not None
    present = getattr(block.module, slot)
    if present is not None and any(True for _ in present.parameters()):
        raise ValueError(f"attention: {block.name} already has attention before its shortcut; choose another position")
    if present is not None:
        attention = nn.Sequential(OrderedDict(attention=attention, drop_path=present))
    setattr(block.module, slot, attention)


def _insert_after(network: nn.Module, name: str, attention: nn.Module) -> None:
    """Insert `attention` after a block in its container under a new name, so that other blocks keep their numbers."""
    container_name, _, block_name = name.rpartition(".")
    container = network.get_submodule(container_name)
    for child_name, child in list(container.named_children()):
        delattr(container, child_name)
        container.add_module(child_name, child)
        if child_name == block_name:
            container.add_module(f"{block_name}_attention", attention)
