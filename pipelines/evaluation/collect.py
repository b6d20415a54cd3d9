"""From a batch to predictions in original pixels, and from all ranks to rank 0."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from heads.base import BoxPrediction, ClassPrediction, Prediction
from pipelines.data.loading.sample import ImageInfo
from pipelines.data.loading.transforms import boxes_to_original
from pipelines.evaluation.predictions import ClassScores, Detections, Embeddings, ImagePredictions, TaskPrediction
from pipelines.ranks import is_distributed, rank, world_size
from pipelines.records import BoxLabel, DatasetIndex, ImageRecord, Split
from pipelines.spec.model import ModelSpec


def in_original_pixels(prediction: Prediction, info: ImageInfo) -> TaskPrediction:
    """Return one image's prediction in numpy, its boxes mapped back to the original image."""
    if isinstance(prediction, BoxPrediction):
        boxes = boxes_to_original(prediction.boxes_xyxy, info)
        return Detections(_numpy(boxes), _numpy(prediction.scores), prediction.labels.cpu().numpy())
    if isinstance(prediction, ClassPrediction):
        return ClassScores(_numpy(prediction.scores))
    return Embeddings(np.atleast_2d(_numpy(prediction.embeddings)))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().float().cpu().numpy()


class Collector:
    """Gathers what the network predicts in one evaluation pass.

    Embeddings of objects are those of the labeled boxes, so that they can be scored; `gallery` holds those of the
    training images, for tasks that ask for it.
    """

    def __init__(self, spec: ModelSpec, index: DatasetIndex) -> None:
        self.spec = spec
        self.records: dict[tuple[Split, int], ImageRecord] = {
            (split, record.image_id): record for split, records in index.records.items() for record in records
        }
        self.begin("val")

    def begin(self, split: Split) -> None:
        """Forget what was gathered; what comes is of `split`."""
        self.split = split
        self.predictions: list[ImagePredictions] = []
        self.gallery: list[ImagePredictions] = []

    def add(self, infos: Sequence[ImageInfo], outputs: Mapping[str, Sequence[Prediction]], *, gallery: bool) -> None:
        """Take the predictions of one batch of the split, or of the gallery.

        Args:
            infos: B images.
            outputs: by task, B predictions in the network's input pixels.
            gallery: whether the images are of the training split, as a gallery.
        """
        split: Split = "train" if gallery else self.split
        into = self.gallery if gallery else self.predictions
        for b, info in enumerate(infos):
            record = self.records[split, info.image_id]
            tasks = {
                task: self._with_labels(in_original_pixels(predictions[b], info), record, task)
                for task, predictions in outputs.items()
            }
            into.append(ImagePredictions(info.image_id, tasks))

    def _with_labels(self, prediction: TaskPrediction, record: ImageRecord, task: str) -> TaskPrediction:
        """Name the labeled boxes that were embedded: they are in the record's order."""
        if not isinstance(prediction, Embeddings) or self.spec.boxes_from(task) is None:
            return prediction
        labels = [label for label in record.labels.get(task, []) if isinstance(label, BoxLabel)]
        boxes_xywh = np.array([label.bbox_xywh for label in labels], dtype=np.float64).reshape(-1, 4)
        boxes_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
        ids = np.array([label.annotation_id for label in labels], dtype=np.int64)
        identities = np.array([label.identity or "" for label in labels], dtype=np.str_)
        return Embeddings(prediction.embeddings, boxes_xyxy, ids, identities)

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
