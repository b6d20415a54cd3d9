"""The part of the contract of heads that exported graphs need.

The number of images and their sizes are not constants in a graph, so its functions have no loop over images.
Legend: B images, R objects of all images.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


@dataclass
class ObjectRows:
    """Objects of all images, image by image.

    Attributes:
        boxes_xyxy: (R, 4).
        images: (R,) int64, the number of the image of each.
    """

    boxes_xyxy: Tensor
    images: Tensor


class ExportableHead(nn.Module):
    """What a graph computes of a head's predictions. A head without these methods cannot be exported."""

    finds_objects: ClassVar[bool] = False
    """True for a head whose predictions are boxes."""

    def graph_outputs(self, raw: Any, image_sizes_hw: Tensor, objects: ObjectRows | None = None) -> dict[str, Tensor]:
        """Return by name what a graph computes of `decode`; the `decoder` of the settings does the rest.

        Args:
            raw: outputs of `forward` for B images.
            image_sizes_hw: (B, 2) int64, sizes before padding.
            objects: of another task, for a head that `needs_boxes`.

        Raises:
            NotImplementedError: the head cannot be exported.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be exported; implement graph_outputs, see docs/adding.md"
        )

    def graph_detections(self, raw: Any, image_sizes_hw: Tensor) -> dict[str, Tensor]:
        """Return what `decode` returns, as `heads.graph_detections.rows_of_detections`: for a graph with NMS inside.

        Args:
            raw: outputs of `forward` for B images.
            image_sizes_hw: (B, 2) int64, sizes before padding.

        Raises:
            NotImplementedError: the head cannot be exported with NMS inside, or does not find objects.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be exported with NMS inside; implement graph_detections, or export it with "
            "NMS outside"
        )
