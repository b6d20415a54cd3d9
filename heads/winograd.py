"""3x3 convolutions of one or several maps with a quarter of the multiplications, for float32 on the CPU.

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, section 4.3: F(4x4, 3x3). A
tile of 6x6 input cells gives 4x4 output cells. Tiles and kernels are transformed, multiplied for each of the 36 places,
and transformed back. All maps are computed in the same matrix products.

The result differs from that of the plain convolution by rounding: relative to the root mean square of the result,
2.5e-6 instead of 2e-7 with 256 channels. It takes half of the time: 200 ms instead of 420 ms for five maps of 40 to 3
cells per side, 256 to 720 channels, forward and backward (one thread, AMD EPYC Zen 5). For the backward pass it keeps
the transformed tiles, which take 2.25 times the memory of the maps.

Legend: B images, C input channels, O output channels, H W size, N tiles of all maps.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

MIN_CHANNELS = 128
MIN_TILES = 64
"""With fewer channels or tiles, the transforms take more time than they save."""

_INPUT = torch.tensor(
    [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ],
    device="cpu",
)
_KERNEL = torch.tensor(
    [
        [1 / 4, 0.0, 0.0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0.0, 0.0, 1.0],
    ],
    device="cpu",
)
_OUTPUT = torch.tensor(
    [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ],
    device="cpu",
)
# A transform of both axes is one product with a Kronecker product.
_INPUT_2D, _KERNEL_2D, _OUTPUT_2D = (torch.kron(one, one) for one in (_INPUT, _KERNEL, _OUTPUT))


def is_faster(maps: Sequence[Tensor], weight: Tensor) -> bool:
    """Return whether `winograd_conv2d` computes the convolution of these maps, and faster than torch does.

    Traced and exported graphs keep the plain convolution, because the number of tiles depends on the size of the maps.
    """
    first = maps[0]
    return (
        first.device.type == "cpu"
        and first.dtype == weight.dtype == torch.float32
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and not torch.is_autocast_enabled("cpu")
        and not (torch.jit.is_tracing() or torch.compiler.is_compiling())  # type: ignore[attr-defined, no-untyped-call]
        and sum(map(_num_tiles, maps)) >= MIN_TILES
    )


def winograd_conv2d(maps: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Return the convolutions (B, O, H, W) of maps (B, C, H, W) with stride 1 and padding 1.

    Args:
        maps: of any sizes, float32.
        weight: (O, C, 3, 3) float32.
        bias: (O,), or None.
    """
    return list(_Winograd.apply(weight, bias, transformed_kernels(weight.detach()), *maps))


def transformed_kernels(weight: Tensor) -> Tensor:
    """Return the kernels (36, O, C) of weights (O, C, 3, 3)."""
    out_channels, in_channels = weight.shape[:2]
    return (_KERNEL_2D @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, out_channels, in_channels)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, kernels_36OC: Tensor, *maps: Tensor
    ) -> tuple[Tensor, ...]:
        out_channels, in_channels = weight.shape[:2]
        tiles_36NC = (_INPUT_2D @ _gather(maps, in_channels)).view(36, -1, in_channels)
        products = torch.bmm(tiles_36NC, kernels_36OC.transpose(1, 2))
        cells = (_OUTPUT_2D @ products.view(36, -1)).view(16, -1, out_channels)
        if bias is not None:
            cells += bias
        ctx.shapes = [(*level.shape[:1], *level.shape[2:]) for level in maps]
        ctx.memory_format = _memory_format([*maps, weight])
        # The kernels are computed again in the backward pass, and not kept: they are four times as large as the weight.
        ctx.save_for_backward(weight, tiles_36NC)
        return tuple(_scatter(cells, ctx.shapes, ctx.memory_format))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, tiles_36NC = ctx.saved_tensors
        out_channels, in_channels = weight.shape[:2]
        wants_weight, wants_bias, _, *wants_maps = ctx.needs_input_grad
        cells = _gather_cells(gradients, out_channels)
        bias_gradient = cells.sum(dim=(0, 1)) if wants_bias else None
        products_36NO = (_OUTPUT_2D.t() @ cells.view(16, -1)).view(36, -1, out_channels)
        weight_gradient = None
        if wants_weight:
            kernels = torch.bmm(products_36NO.transpose(1, 2), tiles_36NC)
            weight_gradient = (_KERNEL_2D.t() @ kernels.view(36, -1)).view(3, 3, out_channels, in_channels)
            weight_gradient = weight_gradient.permute(2, 3, 0, 1)
        map_gradients: Iterable[Tensor | None] = [None] * len(gradients)
        if any(wants_maps):
            tiles = torch.bmm(products_36NO, transformed_kernels(weight))
            map_gradients = _scatter_tiles(
                _INPUT_2D.t() @ tiles.view(36, -1), in_channels, ctx.shapes, ctx.memory_format
            )
        return weight_gradient, bias_gradient, None, *map_gradients


Shape = tuple[int, int, int]
"""B, H, W of a map."""


def _num_tiles(level: Tensor) -> int:
    return level.shape[0] * -(-level.shape[2] // 4) * -(-level.shape[3] // 4)


def _memory_format(tensors: Iterable[Tensor]) -> torch.memory_format:
    """Return the format of the results, as torch's convolution chooses it."""
    is_channels_last = any(
        t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in tensors
    )
    return torch.channels_last if is_channels_last else torch.contiguous_format


def _gather(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Return the 6x6 tiles of all maps as (36, N * C); neighbors overlap by two cells, and borders are zeros."""
    tiles = maps[0].new_empty(36, sum(map(_num_tiles, maps)), channels)
    start = 0
    for level in maps:
        batch, _, height, width = level.shape
        rows, columns = -(-height // 4), -(-width // 4)
        padded = level.new_zeros(batch, 4 * rows + 2, 4 * columns + 2, channels)
        padded[:, 1 : height + 1, 1 : width + 1] = level.permute(0, 2, 3, 1)
        of_image, of_row, of_cell, _ = padded.stride()
        overlapping = padded.as_strided(
            (6, 6, batch, rows, columns, channels), (of_row, of_cell, of_image, 4 * of_row, 4 * of_cell, 1)
        )
        num_tiles = batch * rows * columns
        tiles[:, start : start + num_tiles].view(overlapping.shape).copy_(overlapping)
        start += num_tiles
    return tiles.view(36, -1)


def _scatter(cells: Tensor, shapes: Sequence[Shape], memory_format: torch.memory_format) -> list[Tensor]:
    """Return maps (B, O, H, W) of the 4x4 cells (16, N, O) of their tiles."""
    maps, start = [], 0
    for batch, height, width in shapes:
        rows, columns = -(-height // 4), -(-width // 4)
        num_tiles = batch * rows * columns
        of_map = cells[:, start : start + num_tiles].view(4, 4, batch, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        # Layers that change their input in place accept no views.
        level = torch.empty((batch, cells.shape[2], height, width), memory_format=memory_format)
        if (height % 4, width % 4) == (0, 0) and memory_format == torch.channels_last:
            level.permute(0, 2, 3, 1).view(of_map.shape).copy_(of_map)
        else:
            whole = of_map.reshape(batch, 4 * rows, 4 * columns, -1)
            level.copy_(whole[:, :height, :width].permute(0, 3, 1, 2))
        maps.append(level)
        start += num_tiles
    return maps


def _gather_cells(maps: Sequence[Tensor], channels: int) -> Tensor:
    """Return the 4x4 cells of the tiles of all maps as (16, N, O); cells outside a map are zeros."""
    cells = maps[0].new_empty(4, 4, sum(map(_num_tiles, maps)), channels)
    start = 0
    for level in maps:
        batch, _, height, width = level.shape
        rows, columns = -(-height // 4), -(-width // 4)
        num_tiles = batch * rows * columns
        padded = functional.pad(level.permute(0, 2, 3, 1), (0, 0, 0, 4 * columns - width, 0, 4 * rows - height))
        of_map = cells[:, :, start : start + num_tiles].view(4, 4, batch, rows, columns, channels)
        of_map.copy_(padded.reshape(batch, rows, 4, columns, 4, channels).permute(2, 4, 0, 1, 3, 5))
        start += num_tiles
    return cells.view(16, -1, channels)


def _scatter_tiles(
    tiles: Tensor, channels: int, shapes: Sequence[Shape], memory_format: torch.memory_format
) -> list[Tensor]:
    """Return maps (B, C, H, W) of overlapping 6x6 tiles (36, N * C), which are added up where they overlap."""
    tiles = tiles.view(6, 6, -1, channels)
    maps, start = [], 0
    for batch, height, width in shapes:
        rows, columns = -(-height // 4), -(-width // 4)
        num_tiles = batch * rows * columns
        of_map = tiles[:, :, start : start + num_tiles].view(6, 6, batch, rows, columns, channels)
        added = of_map.permute(2, 3, 0, 4, 1, 5)
        whole = tiles.new_zeros(batch, rows + 1, 4, columns + 1, 4, channels)
        # The last two rows and columns of a tile belong to its neighbors, too.
        whole[:, :rows, :, :columns] = added[:, :, :4, :, :4]
        whole[:, 1:, :2, :columns] += added[:, :, 4:, :, :4]
        whole[:, :rows, :, 1:, :2] += added[:, :, :4, :, 4:]
        whole[:, 1:, :2, 1:, :2] += added[:, :, 4:, :, 4:]
        inside = whole.view(batch, 4 * rows + 4, 4 * columns + 4, channels)[:, 1 : height + 1, 1 : width + 1]
        maps.append(inside.permute(0, 3, 1, 2).contiguous(memory_format=memory_format))
        start += num_tiles
    return maps
