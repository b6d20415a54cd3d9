"""Pooling of feature maps to a fixed size: of whole images, and of boxes on a pyramid.

Legend: B images, C channels, N boxes of all images.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from heads.base import Features, LevelSpec
from heads.exportable import ObjectRows
from heads.spec import Pool


def pool_maps(maps: Tensor, how: Pool) -> Tensor:
    """Return the mean, the maximum, or both concatenated, over each map: (B, C, H, W) to (B, C) or (B, 2 C)."""
    parts = []
    if how in ("avg", "avgmax"):
        parts.append(maps.mean(dim=(2, 3)))
    if how in ("max", "avgmax"):
        parts.append(maps.amax(dim=(2, 3)))
    return torch.cat(parts, dim=1)


def rows_of(boxes_xyxy: Sequence[Tensor]) -> ObjectRows:
    """Return the boxes (N_i, 4) of each image as rows."""
    images = [torch.full(own.shape[:1], image, device=own.device) for image, own in enumerate(boxes_xyxy)]
    return ObjectRows(torch.cat(list(boxes_xyxy)), torch.cat(images))


class PyramidRoIAlign(nn.Module):
    """RoIAlign (He et al. 2017, arXiv 1703.06870) for each box on the level that fits its size.

    The level of a box is k0 + floor(log2(sqrt(area) / side0)) (Lin et al. 2017, arXiv 1612.03144, equation 1), where
    k0 is the first level and side0 spans `min_cells` of its cells, so that a box covers between `min_cells` and twice
    as many cells if the pyramid has a level for that; smaller boxes use the first level, larger boxes the last. The
    paper's 224 px on P4 are 14 cells; its images are larger.

    Args:
        level_specs: the levels to pool from, finest first; strides and offsets as measured.
        size: height and width of the result in bins, each the mean of 2x2 samples.
        min_cells: see above; by default `size`.
        aligned: False samples half a cell off, to the right and below, and enlarges boxes of less than one cell, as
            torchvision's detectors do.
        pool: torchvision's function, or `heads.roi_align.roi_align`, which rounds differently.
    """

    def __init__(
        self,
        level_specs: Mapping[str, LevelSpec],
        size: int = 7,
        *,
        min_cells: float | None = None,
        aligned: bool = True,
        pool: Callable[..., Tensor] = roi_align,
    ) -> None:
        super().__init__()
        self.specs = dict(level_specs)
        self.size = size
        self.min_cells = size if min_cells is None else min_cells
        self.aligned = aligned
        self.pool = pool

    def forward(self, features: Features, objects: ObjectRows) -> Tensor:
        """Return (N, C, size, size), float32, in the order of the boxes.

        Sampling runs in float32 for features of any type. Every level is in the autograd graph, even without boxes on
        it, so that every parameter has a gradient.
        """
        boxes, images = objects.boxes_xyxy.float(), objects.images.float()
        levels = self.levels_of(boxes)
        pooled, positions = [], []
        for number, (level, spec) in enumerate(self.specs.items()):
            here = (levels == number).nonzero().squeeze(1)
            rois = torch.cat((images[here, None], boxes[here] - spec.offset_px), dim=1)
            pooled.append(self.pool(features[level].float(), rois, self.size, 1 / spec.stride, 2, aligned=self.aligned))
            positions.append(here)
        order = torch.cat(positions).argsort()
        if torch.compiler.is_exporting():
            # The exporter does not know that every box is on exactly one level.
            torch._check(order.shape[0] == boxes.shape[0])
        return torch.cat(pooled)[order]

    def levels_of(self, boxes_xyxy: Tensor) -> Tensor:
        """Return the number of the level, 0 for the finest, of each box: (N,) int64."""
        finest_side = next(iter(self.specs.values())).stride * self.min_cells
        sides = ((boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])).clamp(min=0).sqrt()
        # Adding a small number puts a box that is exactly on a boundary on the coarser level, despite rounding.
        levels = (sides / finest_side + 1e-6).log2().floor()
        return levels.clamp(0, len(self.specs) - 1).long()
