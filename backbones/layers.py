"""Layer numbers of parameters, for learning rates that decay from layer to layer.

timm defines the order of layers for nearly all of its networks. For other networks it is measured: the blocks of a
network are the children of its containers, numbered in the order in which they run. This needs no naming rules for
architectures.

Layers follow the stages: all layers of c3 come before those of c4. If one of timm's layers spans two stages (DenseNet's
transitions, Xception's strided blocks, HRNet's parallel branches), its parts in the two stages are separate layers.
"""

from collections.abc import Iterator, Mapping

from torch import nn

from backbones.base import LEVELS
from backbones.geometry import PROBE_HW
from backbones.meta_device import run_on_meta

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def number_layers(ranks: Mapping[str, int], stages: Mapping[str, str]) -> dict[str, int]:
    """Return the layer of every parameter: 0 is nearest to the image, without gaps, in the order of the stages.

    Args:
        ranks: a rank for each parameter; later layers have larger ranks. A parameter without a rank (the norm of a
            level) belongs to the last layer of its stage.
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
    """Return the block number of every parameter of `network`, in the order in which blocks first run.

    A block that has only vectors as parameters (a norm after a convolution) belongs to the block that runs before it.
    Parameters outside all blocks (a position embedding) belong to the first block.

    Args:
        network: the network whose parameters are numbered.
        caller: the module that runs it; by default the network itself.

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
    """Yield the blocks of `module` with their names: its children, with containers replaced by their own blocks.

    A container with a single weighted child (a convolution with its norm) is one block.
    """
    for name, child in module.named_children():
        if isinstance(child, _CONTAINERS) and sum(map(_has_weights, child.children())) > 1:
            yield from _blocks(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _order_of_runs(caller: nn.Module, blocks: Mapping[str, nn.Module]) -> list[str]:
    """Return the blocks in the order in which they first run, without those that never run."""
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
