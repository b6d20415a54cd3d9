"""Collect predictions in original pixels from batches, and gather them on rank 0."""

from collections.abc import Iterable, Mapping, Sequence

import torch.distributed

from heads.base import Prediction
from pipelines.base.ranks import is_distributed, rank, world_size
from pipelines.base.records import DatasetIndex, ImageRecord, Split
from pipelines.data.loading.sample import ImageInfo
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.tensors.runtime import runtime_of


class Collector:
    """Gathers what the network predicts in one evaluation pass.

    Tasks that take boxes get the labeled ones, so that they can be scored; `gallery` holds predictions of the training
    images, for tasks that search there.
    """

    def __init__(self, spec: ModelSpec, index: DatasetIndex) -> None:
        self.spec = spec
        self.setups = {name: TaskSetup(name, task, index.categories.get(name, ())) for name, task in spec.tasks.items()}
        self.records = index.records
        self._positions: dict[Split, dict[int, int]] = {}
        self.begin("val")

    def begin(self, split: Split) -> None:
        """Start a new pass over `split`, without predictions."""
        self.split = split
        self.predictions: list[ImagePredictions] = []
        self.gallery: list[ImagePredictions] = []

    def add(self, infos: Sequence[ImageInfo], outputs: Mapping[str, Sequence[Prediction]], *, gallery: bool) -> None:
        """Add the predictions of one batch of the split, or of the gallery.

        Args:
            infos: B images.
            outputs: by task, B predictions in the network's input pixels.
            gallery: whether the images belong to the training split and form a gallery.
        """
        split: Split = "train" if gallery else self.split
        into = self.gallery if gallery else self.predictions
        for b, info in enumerate(infos):
            record = self._record(split, info.image_id)
            tasks = {}
            for name, predictions in outputs.items():
                runtime = runtime_of(self.spec.tasks[name])
                output = runtime.from_network(predictions[b], info)
                tasks[name] = runtime.with_labels(self.setups[name], output, record)
            into.append(ImagePredictions(info.image_id, tasks))

    def _record(self, split: Split, image_id: int) -> ImageRecord:
        if split not in self._positions:
            ids = (record.image_id for record in self.records[split])
            self._positions[split] = {image_id: position for position, image_id in enumerate(ids)}
        return self.records[split][self._positions[split][image_id]]

    def gather(self) -> tuple[list[ImagePredictions], list[ImagePredictions]] | None:
        """Return (predictions, gallery) of all ranks, by image id; None on ranks other than 0."""
        if not is_distributed():
            return _sorted(self.predictions), _sorted(self.gallery)
        is_first = rank() == 0
        parts: list[tuple[list[ImagePredictions], list[ImagePredictions]]] | None = (
            [([], [])] * world_size() if is_first else None
        )
        torch.distributed.gather_object((self.predictions, self.gallery), parts)
        if parts is None:
            return None
        return _sorted(p for part in parts for p in part[0]), _sorted(p for part in parts for p in part[1])


def _sorted(predictions: Iterable[ImagePredictions]) -> list[ImagePredictions]:
    return sorted(predictions, key=lambda prediction: prediction.image_id)
