"""Blocks that look at the whole map, by kind; see `backbones.spec.surgery.AttentionSpec`."""

from timm.layers.global_context import GlobalContext
from timm.layers.non_local_attn import NonLocalAttn
from timm.layers.squeeze_excite import SEModule
from torch import nn

from backbones.spec.surgery import Attention


def attention_block(kind: Attention, channels: int, ratio: float) -> nn.Module:
    """Return a block that turns a map (B, C, H, W) into one of the same shape.

    gc and nl give back their input until they are trained, as in their papers: the last layer of gc's transform, bias
    included, and the norm behind nl start at zero. A loop that starts all layers of a network anew would undo that, so
    they are put in behind it. se is no identity: at random its gates are near 1/2.

    Deviation: nl's products are divided by the root of the channels before the softmax, as timm has it.

    Args:
        kind: of the block.
        channels: C.
        ratio: channels inside the block over C; there is one at least.
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
