"""A network that a runtime computes, which predicts as `MultiTaskModel` does."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from heads.base import Prediction
from heads.calibration import calibrated
from heads.create import decode_graph_outputs
from pipelines.runtimes.base import Session
from pipelines.spec.model import ModelSpec


class ExportedNetwork:
    """The graph of a model in a runtime.

    What the graph leaves to do, such as dropping overlapping boxes, is the code of the heads for all runtimes.

    Args:
        session: the loaded graph.
        spec: the `model` of the document that the model was trained with.
        temperatures: of the tasks whose scores are calibrated.
        sizes_hw: the sizes of images that the graph takes; smaller images are padded. None: it takes any.
    """

    def __init__(
        self,
        session: Session,
        spec: ModelSpec,
        temperatures: Mapping[str, float],
        sizes_hw: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.session, self.spec, self.temperatures, self.sizes_hw = session, spec, dict(temperatures), sizes_hw

    def predict(
        self, images: Tensor, image_sizes_hw: Sequence[tuple[int, int]], tasks: Collection[str] | None = None
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task; see `MultiTaskModel.predict`.

        Args:
            images: (B, 3, H, W) uint8 on the CPU.
            image_sizes_hw: sizes before padding.
            tasks: names of the tasks to predict; all by default.

        Raises:
            ValueError: the images are larger than the graph takes.
        """
        images = images if self.sizes_hw is None else pad_images(images, self.sizes_hw)
        sizes = np.asarray(image_sizes_hw, dtype=np.int64).reshape(-1, 2)
        found = self.session.run({"images": images.numpy(), "sizes_hw": sizes})
        predictions = {}
        for task in sorted(self.spec.tasks):
            if tasks is None or task in tasks:
                outputs = {
                    name.removeprefix(f"{task}."): torch.from_numpy(values)
                    for name, values in found.items()
                    if name.startswith(f"{task}.")
                }
                decoded = decode_graph_outputs(self.spec.tasks[task], outputs, image_sizes_hw)
                temperature = self.temperatures.get(task)
                predictions[task] = decoded if temperature is None else [calibrated(p, temperature) for p in decoded]
        return predictions


def pad_images(images: Tensor, sizes_hw: Sequence[tuple[int, int]]) -> Tensor:
    """Return images padded with zeros, at the right and the bottom, to the smallest of some sizes that holds them."""
    height, width = images.shape[-2:]
    fitting = [size for size in sizes_hw if size[0] >= height and size[1] >= width]
    if not fitting:
        allowed = ", ".join(f"{own[0]} x {own[1]}" for own in sizes_hw)
        raise ValueError(f"images: got height x width {height} x {width}; the graph takes at most {allowed}")
    target = min(fitting, key=lambda size: size[0] * size[1])
    return torch.nn.functional.pad(images, (0, target[1] - width, 0, target[0] - height))
