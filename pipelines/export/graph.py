"""The part of a model that runtimes compute, as a module that can be traced.

Legend: B images, H W size in pixels.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from backbones.surgery.same_padding import fix_same_padding
from heads.base import Head
from heads.exportable import ObjectRows
from heads.fast_convolution import use_library_convolutions
from pipelines.model import MultiTaskModel
from pipelines.spec.exported_variant import Nms


class ExportGraph(nn.Module):
    """One backbone pass and the outputs of all heads.

    Args:
        model: a trained network; it is copied, and not changed.
        nms: where overlapping boxes are dropped; always inside if the model embeds objects, since these are the boxes
            that remain.
    """

    def __init__(self, model: MultiTaskModel, nms: Nms = "outside") -> None:
        super().__init__()
        self.model = deepcopy(model).cpu().eval()
        self.model.fold_norms()
        use_library_convolutions(self.model)
        fix_same_padding(self.model)
        self.model.memory_format = torch.contiguous_format
        self.model.to(memory_format=torch.contiguous_format)
        self.requires_grad_(False)
        self.nms: Nms = "inside" if any(head.needs_boxes for head in self._heads().values()) else nms

    def _heads(self) -> dict[str, Head]:
        """Return the heads by task; those that need boxes are last."""
        heads = {task: head for task, head in self.model.heads.items() if isinstance(head, Head)}
        return dict(sorted(heads.items(), key=lambda item: item[1].needs_boxes))

    def forward(self, images: Tensor, sizes_hw: Tensor) -> dict[str, Tensor]:
        """Return the outputs of all heads, with names such as `cells.scores`; see `heads.exportable.ExportableHead`.

        Args:
            images: (B, 3, H, W) uint8, H and W multiples of 32.
            sizes_hw: (B, 2) int64, sizes before padding.
        """
        features = self.model.features(images)
        objects: dict[str, ObjectRows] = {}
        outputs = {}
        for task, head in self._heads().items():
            if head.finds_objects and self.nms == "inside":
                found = head.graph_detections(head(features), sizes_hw)
                objects[task] = ObjectRows(found["boxes"], found["images"])
            else:
                boxes = objects[self.model.boxes_from[task]] if head.needs_boxes else None
                found = head.graph_outputs(head(features), sizes_hw, boxes)
            outputs.update({f"{task}.{name}": values for name, values in found.items()})
        return outputs
