"""Attention blocks by kind; `backbones.spec.surgery.AttentionSpec` describes the kinds."""

from timm.layers.global_context import GlobalContext
from timm.layers.non_local_attn import NonLocalAttn
from timm.layers.squeeze_excite import SEModule
from torch import nn

from backbones.spec.surgery import Attention


def attention_block(kind: Attention, channels: int, ratio: float) -> nn.Module:
    """Return an attention block that turns a map (B, C, H, W) into one of the same shape.

    As in their papers, gc and nl are the identity until they are trained: the last layer of gc's transform, including
    its bias, and the norm after nl start at zero. Code that initializes all layers of a network would undo that, so
    insert the blocks afterward. se is not the identity: with random weights its gates are near 1/2.

    Deviation: nl's products are divided by the square root of the channels before the softmax, as in timm.

    Args:
        kind: se, gc or nl.
        channels: C.
        ratio: ratio of the inner channels to C; at least one channel is used.
    """
    inner = max(1, round(channels * ratio))
    if kind == "se":
        return SEModule(channels, rd_channels=inner)
    if kind == "gc":
        block = GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_channels=inner)
        for parameter in block.get_submodule("mlp_add.fc2").parameters():
            nn.init.zeros_(parameter)
        return block
    non_local: nn.Module = NonLocalAttn(channels, rd_channels=inner)  # type: ignore[no-untyped-call]
    return non_local
