"""The methods of explanation: maps of what a score depends on, by Captum.

All maps are (h, w) float32 in pixels of the network's input without padding. Positive values raise the score.
Legend: B versions of one image, h w size before padding, H' W' size of a feature level in cells.
"""

import math
from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients, LayerGradCam, LayerGradientXActivation, Occlusion
from torch import Tensor
from torch.nn import functional

from backbones.fpn import FPN
from heads.base import LevelSpec
from pipelines.explanations.score_network import ScoreNetwork
from pipelines.spec.explanation import ExplanationMethod

BATCH = 8
"""Number of images that the network computes at once."""
WINDOW_STEPS = 2
"""Side of the occluded window in steps: each pixel that is not at the border is in four windows."""


def gradcam(scored: ScoreNetwork, image: Tensor, steps: int) -> Tensor:
    """Return what the cells of the followed level contribute, at the resolution of the image; `steps` has no effect.

    Of a score of the whole map, this is Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): channels are weighted by
    the mean of their gradients, and negative sums are dropped. Of a local score, which has a gradient in few cells,
    that mean would mark all objects that look alike. Therefore each cell keeps its own gradient there (HiResCAM,
    Draelos and Carin 2020, arXiv 2011.08891).
    """
    if scored.followed.is_local:
        cells = LayerGradientXActivation(scored, scored.tap).attribute(image).sum(dim=1, keepdim=True).relu()
    else:
        cells = LayerGradCam(scored, scored.tap).attribute(image, relu_attributions=True)
    neck = scored.model.neck
    assert isinstance(neck, FPN)
    specs: dict[str, LevelSpec] = {**scored.model.backbone.feature_specs, **neck.feature_specs}
    height, width = image.shape[2:]
    return cells_to_pixels(cells.detach(), specs[scored.followed.level], (height, width))


def occlusion(scored: ScoreNetwork, image: Tensor, steps: int) -> Tensor:
    """Return by how much the score falls if a gray window covers a pixel, as a mean over the windows that do.

    Zeiler and Fergus 2013, arXiv 1311.2901, section 4.2. The window has the mean color of the training images, a side
    of two steps, and `steps` positions along the longer side, so that there are at most steps * steps windows.
    """
    height, width = image.shape[2:]
    step = math.ceil(max(height, width) / steps)
    window = (3, min(WINDOW_STEPS * step, height), min(WINDOW_STEPS * step, width))
    fallen: Tensor = Occlusion(scored).attribute(
        image,
        sliding_window_shapes=window,
        strides=(3, min(step, height), min(step, width)),
        baselines=_gray(scored, image),
        perturbations_per_eval=BATCH,
    )
    return fallen[0, 0]


def integrated_gradients(scored: ScoreNetwork, image: Tensor, steps: int) -> Tensor:
    """Return the share of each pixel in the difference between the score of the image and that of a gray image.

    Sundararajan, Taly, Yan 2017, arXiv 1703.01365: gradients are integrated along the straight line between both, by
    Gauss-Legendre at `steps` points. The shares of the three channels are added up.
    """
    shares: Tensor = IntegratedGradients(scored).attribute(
        image, baselines=_gray(scored, image), n_steps=steps, internal_batch_size=BATCH
    )
    return shares[0].sum(dim=0)


Method = Callable[[ScoreNetwork, Tensor, int], Tensor]
"""Takes the score, the image (1, 3, h, w) float32 from 0 to 255, which requires a gradient, and the steps."""

BY_NAME: dict[ExplanationMethod, Method] = {
    "gradcam": gradcam,
    "occlusion": occlusion,
    "integrated_gradients": integrated_gradients,
}


def cells_to_pixels(cells: Tensor, spec: LevelSpec, size_hw: tuple[int, int]) -> Tensor:
    """Return a map of cells (1, 1, H', W') interpolated to pixels (h, w), from the measured centers of the cells."""
    rows, columns = (
        2 * ((torch.arange(size, device=cells.device) + 0.5 - spec.offset_px) / spec.stride) / number - 1
        for size, number in zip(size_hw, cells.shape[2:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None].to(cells.dtype)
    return functional.grid_sample(cells, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]


def _gray(scored: ScoreNetwork, image: Tensor) -> Tensor:
    return (scored.model.mean * 255).expand_as(image)
