"""3x3 convolutions that use Winograd's algorithm where it is faster, and layers that several maps share."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from heads.winograd import MIN_CHANNELS, is_faster, winograd_conv2d


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution with stride 1 and padding 1; parameters and results are those of `nn.Conv2d`.

    In float32 on the CPU, with enough channels and cells, the results differ by rounding, see `heads.winograd`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of (B, in_channels, H, W)."""
        return self.forward_maps([input])[0]

    def forward_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the convolution of each map."""
        if is_faster(maps, self.weight):
            return winograd_conv2d(maps, self.weight, self.bias)
        return [super(WinogradConv2d, self).forward(level) for level in maps]


def use_winograd(network: nn.Module) -> None:
    """Turn every convolution of `network` for which Winograd's algorithm can be faster into a `WinogradConv2d`.

    Parameters, their names, and everything else about the modules stay the same.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_suitable(module):
            module.__class__ = WinogradConv2d


def use_library_convolutions(network: nn.Module) -> None:
    """Undo `use_winograd`, such as before the network is traced: a runtime chooses the algorithm itself."""
    for module in network.modules():
        if isinstance(module, WinogradConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def _is_suitable(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
    )


def on_all_maps(layers: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return `layers` (a layer or a sequence) of each map; each layer runs on all maps before the next one.

    Layers with hooks are called map by map.
    """
    results = list(maps)
    for layer in _layers(layers):
        if isinstance(layer, WinogradConv2d) and not _has_hooks(layer):
            results = layer.forward_maps(results)
        else:
            results = [layer(level) for level in results]
    return results


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is nn.Sequential and not _has_hooks(module):
        for layer in module:
            yield from _layers(layer)
    else:
        yield module


def _has_hooks(module: nn.Module) -> bool:
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(map(bool, kinds))
