"""Folding of norms into the convolutions before them, for networks that only predict.

Pairs of a convolution and a norm are found in the autograd graph of the built network, without names of architectures:
the norm gets the output of the convolution, and nothing else does. Everything else stays as it is.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from backbones.geometry import PROBE_HW
from backbones.meta_device import run_on_meta
from backbones.subsampling import SubsampledConv2d

_NORMS_WITH_ACTIVATION = (BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct)
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d, *_NORMS_WITH_ACTIVATION)


@dataclass
class _Graph:
    """The nodes of the autograd graph at the outputs of convolutions and at the inputs of norms, by module name."""

    convolutions: dict[Any, list[str]] = field(default_factory=dict)
    norms: dict[Any, list[str]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)


def fold_norms(network: nn.Module, also_plain: type[nn.Conv2d] = nn.Conv2d) -> int:
    """Fold the norms of a network in eval mode into the convolutions before them; return their number.

    The network can neither be trained nor saved afterward. Its maps stay the same up to rounding.

    Args:
        network: turns an image into maps, which it returns as a dict or as a list.
        also_plain: a subclass of convolutions whose result is the convolution with `weight` and `bias`, as that of
            `nn.Conv2d` is. Other subclasses change their weight in each call, or have none.
    """
    pairs = _pairs(network, (nn.Conv2d, SubsampledConv2d, Conv2dSame, also_plain))
    for conv_name, norm_name in pairs.items():
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        _fold(conv, norm)
        activation = norm.act if isinstance(norm, _NORMS_WITH_ACTIVATION) else nn.Identity()
        assert isinstance(activation, nn.Module)
        network.set_submodule(norm_name, activation)
    return len(pairs)


def _pairs(network: nn.Module, plain: tuple[type[nn.Conv2d], ...]) -> dict[str, str]:
    """Return the name of the norm that can be folded into a convolution, by the name of the convolution."""
    graph = _Graph()
    handles = []
    for name, module in network.named_modules():
        if type(module) in plain:
            handles.append(module.register_forward_hook(_recorder(graph.convolutions, graph.calls, name)))
        elif type(module) in _NORMS:
            handles.append(module.register_forward_pre_hook(_recorder(graph.norms, graph.calls, name)))
    try:
        run = run_on_meta(network, PROBE_HW)
    finally:
        for handle in handles:
            handle.remove()
    uses = _uses(run.outputs)
    return {
        convs[0]: norms[0]
        for node, convs in graph.convolutions.items()
        if (norms := graph.norms.get(node)) and uses[node] == 1 and graph.calls[convs[0]] == graph.calls[norms[0]] == 1
    }


def _recorder(nodes: dict[Any, list[str]], calls: Counter[str], name: str) -> Any:
    def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        calls[name] += 1
        nodes.setdefault((inputs[0] if output is None else output).grad_fn, []).append(name)

    return record


def _uses(outputs: list[Tensor]) -> Counter[Any]:
    """Return how often the result of each node is used, as an output or as an argument of another node."""
    uses: Counter[Any] = Counter(output.grad_fn for output in outputs)
    pending, visited = list(uses), set()
    while pending:
        node = pending.pop()
        if node in visited:
            continue
        visited.add(node)
        for parent, _ in node.next_functions:
            if parent is not None:
                uses[parent] += 1
                pending.append(parent)
    return uses


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: Any) -> None:
    """Multiply the kernels of `conv` by the scale of `norm`, and add its shift, in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    # An elementwise product keeps the memory format of the weight.
    weight = (conv.weight.double() * scale[:, None, None, None]).to(conv.weight.dtype)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
