"""How far the predictions of an exported network are from those of torch."""

from collections.abc import Collection, Sequence

from torch import Tensor

from heads.base import Prediction
from heads.prediction_comparison import Differences
from pipelines.export.evaluation import Predictions
from pipelines.inference.network import Network
from pipelines.runtimes.network import pad_images
from pipelines.spec.exported_variant import Parity


class ParityMeter:
    """The largest differences between two networks over all images that were added."""

    def __init__(self) -> None:
        self._num_images = 0
        self._differences = Differences()

    def add(self, found: Sequence[Predictions]) -> None:
        """Add the predictions of torch and those of the export for the same images."""
        reference, other = found
        self._num_images += len(next(iter(reference.values())))
        for task, predictions in reference.items():
            for first, second in zip(predictions, other[task], strict=True):
                self._differences.add(first, second)

    @property
    def result(self) -> Parity:
        """The differences."""
        own = self._differences
        return Parity(
            num_images=self._num_images,
            scores=own.scores,
            boxes_px=own.boxes_px,
            embeddings=own.embeddings,
            missing_detections=own.num_missing / own.num_detections if own.num_detections else 0.0,
        )


class PaddedNetwork:
    """A network whose images are padded to the sizes that a graph takes, as `ExportedNetwork` does.

    Args:
        network: takes images of any size.
        sizes_hw: see `pad_images`.
    """

    def __init__(self, network: Network, sizes_hw: Sequence[tuple[int, int]]) -> None:
        self.network, self.sizes_hw = network, sizes_hw

    def predict(
        self, images: Tensor, image_sizes_hw: Sequence[tuple[int, int]], tasks: Collection[str] | None = None
    ) -> dict[str, list[Prediction]]:
        """Return B predictions by task; see `Network.predict`."""
        return self.network.predict(pad_images(images, self.sizes_hw), image_sizes_hw, tasks)
