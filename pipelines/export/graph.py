"""The part of a model that runtimes compute, as a module that can be traced.

Legend: B images, H W size in pixels.
"""

from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from heads.base import Head
from heads.fast_convolution import use_library_convolutions
from pipelines.model import MultiTaskModel

Nms = Literal["outside", "inside"]
"""Whether overlapping boxes are dropped after the graph (outside) or by it."""


class ExportGraph(nn.Module):
    """One backbone pass and the outputs of all heads, before overlapping boxes are dropped.

    Args:
        model: a trained network; it is copied, and not changed.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = deepcopy(model).cpu().eval()
        self.model.fold_norms()
        use_library_convolutions(self.model)
        self.model.memory_format = torch.contiguous_format
        self.model.to(memory_format=torch.contiguous_format)
        self.requires_grad_(False)

    def forward(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """Return the outputs of all heads, with names such as `cells.scores`; see `Head.graph_outputs`.

        Args:
            images: (B, 3, H, W) uint8, H and W multiples of 32.
            sizes_hw: (B, 2) int64, sizes before padding.
        """
        features = self.model.features(images)
        outputs = {}
        for task, head in self.model.heads.items():
            assert isinstance(head, Head)
            for name, values in head.graph_outputs(head(features), sizes_hw).items():
                outputs[f"{task}.{name}"] = values
        return outputs
