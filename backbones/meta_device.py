"""Runs of a network on the meta device: shapes and the autograd graph, without memory or arithmetic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional, init
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class MetaRun:
    """Outputs of a network on the meta device, still attached to their autograd graph.

    Attributes:
        outputs: the maps that `forward` returned, finest first.
        leaves: the parameter name of each meta tensor in the graph.
    """

    outputs: list[Tensor]
    leaves: dict[Tensor, str]


class _Norm(torch.autograd.Function):
    """A norm without arithmetic. The name of its autograd node contains `Norm`, as that of the original does."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, bias)
        return torch.empty_like(maps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *(None if saved is None else torch.empty_like(saved) for saved in ctx.saved_tensors)


def _layer_norm(
    maps: Tensor, _normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    *_settings: object, **_more_settings: object,
) -> Tensor:  # fmt: skip
    normalized: Tensor = _Norm.apply(maps, weight, bias)
    return normalized


def _batch_norm(
    maps: Tensor, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, *_settings: object, **_more_settings: object,
) -> Tensor:  # fmt: skip
    normalized: Tensor = _Norm.apply(maps, weight, bias)
    return normalized


def _activation(maps: Tensor, *_settings: object, **_more_settings: object) -> Tensor:
    return maps.clone()


def _adaptive_avg_pool(maps: Tensor, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    if output_size in (1, (1, 1)):
        return maps.sum((-2, -1), keepdim=True)
    return functional.adaptive_avg_pool2d(maps, output_size)


class ShapesOnly(TorchFunctionMode):
    """Replaces norms, activations and means by functions of the same shapes and gradients.

    On the meta device, torch runs them as Python code, which takes up to a hundred times as long as a convolution.
    """

    _REPLACEMENTS: Mapping[object, Callable[..., Tensor]] = {
        functional.batch_norm: _batch_norm,
        functional.layer_norm: _layer_norm,
        **dict.fromkeys(
            (
                functional.relu,
                functional.relu6,
                functional.hardtanh,
                functional.hardswish,
                functional.hardsigmoid,
                functional.gelu,
                functional.mish,
                functional.silu,
                torch.sigmoid,
                Tensor.sigmoid,
            ),
            _activation,
        ),
        Tensor.mean: Tensor.sum,
        functional.adaptive_avg_pool2d: _adaptive_avg_pool,
    }

    def __torch_function__(
        self, function: Any, _types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._REPLACEMENTS.get(function, function)(*args, **(kwargs or {}))


class _Unfilled(TorchFunctionMode):
    """Leaves out the functions by which layers fill their parameters, which are slow on the meta device, too."""

    _FILLS = frozenset(
        (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_, Tensor.mul_, Tensor.add_, Tensor.fill_)
    )
    _INITIALIZERS = frozenset((init.normal_, init.uniform_, init.constant_, init.kaiming_uniform_))
    """Functions that torch hands to a mode as a whole: what they call does not come here."""

    def __torch_function__(
        self, function: Any, _types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in self._INITIALIZERS:
            return (kwargs or {})["tensor"]
        if function in self._FILLS and not torch.is_grad_enabled():
            return args[0]
        return function(*args, **(kwargs or {}))


@contextmanager
def built_on_meta() -> Iterator[None]:
    """Build networks on the meta device: their parameters have shapes, but neither memory nor values."""
    with torch.device("meta"), _Unfilled():
        yield


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
        with torch.enable_grad(), ShapesOnly():
            image = torch.empty(1, 3, *image_hw, device="meta")
            outputs = functional_call(module, {**parameters, **buffers}, (image,))
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        height, width = image_hw
        raise ValueError(f"the network does not accept an image of {height}x{width} pixels: {error}") from error
    finally:
        module.train(was_training)
    maps = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
    return MetaRun(outputs=maps, leaves={leaf: name for name, leaf in parameters.items()})
