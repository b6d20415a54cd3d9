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
    """

    def __init__(self, session: Session, spec: ModelSpec, temperatures: Mapping[str, float]) -> None:
        self.session, self.spec, self.temperatures = session, spec, dict(temperatures)

    def predict(
        self, images: Tensor, image_sizes_hw: Sequence[tuple[int, int]], tasks: Collection[str] | None = None
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task; see `MultiTaskModel.predict`.

        Args:
            images: (B, 3, H, W) uint8 on the CPU.
            image_sizes_hw: sizes before padding.
            tasks: names of the tasks to predict; all by default.
        """
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
