"""Which layer a parameter belongs to, for rates that fall from layer to layer.

timm tells the order of the layers of nearly all of its networks. For the others it is found: the blocks of a network
are what its containers hold, and they count in the order in which they run. No naming rules of architectures are
needed.

Layers follow the stages: all layers of c3 come before all of c4. Where a layer of timm's lies in two stages
(DenseNet's transitions, Xception's strided blocks, HRNet's parallel branches), each stage has its share of it as a
layer of its own.
"""

from collections.abc import Iterator, Mapping

from torch import nn

from backbones.base import LEVELS
from backbones.geometry import PROBE_HW
from backbones.meta_device import run_on_meta

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def number_layers(ranks: Mapping[str, int], stages: Mapping[str, str]) -> dict[str, int]:
    """Return the layer of every parameter: 0 is nearest the image, no number is left out, and stages are in order.

    Args:
        ranks: where a parameter's layer comes along the network, at any numbers; a parameter that has none (the norm
            of a level) belongs to the last layer of its stage.
        stages: the stage of every parameter.
    """
    last: dict[str, int] = {}
    for name, rank in ranks.items():
        if name in stages:
            last[stages[name]] = max(rank, last.get(stages[name], rank))
    keys = {
        name: (LEVELS.index(stage), ranks[name] if name in ranks else last.get(stage, 0))
        for name, stage in stages.items()
    }
    layers = {key: layer for layer, key in enumerate(sorted(set(keys.values())))}
    return {name: layers[key] for name, key in keys.items()}


def block_ranks(network: nn.Module, caller: nn.Module | None = None) -> dict[str, int]:
    """Return the block of every parameter of `network`, by when the block first runs.

    A block of vectors alone (a norm behind a convolution) is part of the block that runs before it; what is outside of
    all blocks (a position embedding) is part of the first.

    Args:
        network: whose blocks are found.
        caller: the module that runs it; by default the network itself is called.

    Raises:
        ValueError: the network does not take an image of `PROBE_HW`.
    """
    blocks = dict(_blocks(network))
    ranks = {name: 0 for name, _ in network.named_parameters()}
    num_weighted = 0
    for block in _order_of_runs(caller or network, blocks):
        num_weighted += _has_weights(blocks[block])
        ranks |= {name: max(0, num_weighted - 1) for name, _ in blocks[block].named_parameters(prefix=block)}
    return ranks


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of `module`, by name; in place of a container of several parts with weights, its own parts.

    A container of one (a convolution with its norm) is a block.
    """
    for name, child in module.named_children():
        if isinstance(child, _CONTAINERS) and sum(map(_has_weights, child.children())) > 1:
            yield from _blocks(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _order_of_runs(caller: nn.Module, blocks: Mapping[str, nn.Module]) -> list[str]:
    """Return the blocks in the order in which they first run; those that never run are left out."""
    runs: dict[str, None] = {}
    handles = [
        block.register_forward_pre_hook(lambda _module, _inputs, name=name: runs.setdefault(name))
        for name, block in blocks.items()
    ]
    try:
        run_on_meta(caller, PROBE_HW)
    finally:
        for handle in handles:
            handle.remove()
    return list(runs)
