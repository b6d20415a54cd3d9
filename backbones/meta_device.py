"""Runs of a network on the meta device: shapes and the autograd graph, without memory or arithmetic."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class MetaRun:
    """Outputs of a network on the meta device, still attached to their autograd graph.

    Attributes:
        outputs: the maps that `forward` returned, finest first.
        leaves: the parameter name of each meta tensor in the graph.
    """

    outputs: list[Tensor]
    leaves: dict[Tensor, str]


def run_on_meta(module: nn.Module, image_hw: tuple[int, int]) -> MetaRun:
    """Run a copy of `module` on the meta device, in eval mode, on one image of `image_hw`; `module` is not moved.

    Raises:
        ValueError: the module does not accept images of this size.
    """
    parameters = {name: p.detach().to("meta").requires_grad_() for name, p in module.named_parameters()}
    buffers = {name: b.to("meta") for name, b in module.named_buffers()}
    was_training = module.training
    module.eval()
    try:
        with torch.enable_grad():
            image = torch.empty(1, 3, *image_hw, device="meta")
            outputs = functional_call(module, {**parameters, **buffers}, (image,))
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        height, width = image_hw
        raise ValueError(f"the network does not accept an image of {height}x{width} pixels: {error}") from error
    finally:
        module.train(was_training)
    maps = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    return MetaRun(outputs=maps, leaves={leaf: name for name, leaf in parameters.items()})
