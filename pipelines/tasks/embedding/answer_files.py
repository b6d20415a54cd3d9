"""Embeddings of many images as arrays. Torch-free."""

from array import array
from collections.abc import Sequence
from typing import BinaryIO

from pipelines.base.records import Category
from pipelines.tasks.answer_files import AnsweredImage, AnswerFile, AnswerJson, FileFormat


class EmbeddingArrays(AnswerFile):
    """An npz file with the arrays embedding (N, D), image_id, file_name, bbox_xywh (N, 4) in original pixels, which is
    the whole image for an embedding of the image, and score of the detector (NaN for an embedding of the image)."""

    format = FileFormat(".npz", "application/octet-stream")

    def __init__(self, stream: BinaryIO, categories: Sequence[Category]) -> None:
        super().__init__(stream, categories)
        self._embeddings: list[array[float]] = []
        self._image_ids: list[int] = []
        self._file_names: list[str] = []
        self._boxes_xywh: list[list[float]] = []
        self._scores: list[float] = []

    def add(self, image: AnsweredImage, answer: AnswerJson) -> None:
        whole = {
            "bbox_xywh": [0.0, 0.0, float(image.width), float(image.height)],
            "score": float("nan"),
            "embedding": answer.get("embedding"),
        }
        for found in answer.get("embeddings", [whole]):
            self._embeddings.append(array("f", found["embedding"]))
            self._image_ids.append(image.image_id)
            self._file_names.append(image.file_name)
            self._boxes_xywh.append(found["bbox_xywh"])
            self._scores.append(found["score"])

    def close(self) -> None:
        # Here, because processes that only need the schema of embeddings import this module.
        import numpy as np

        np.savez(
            self.stream,
            embedding=np.array(self._embeddings, dtype=np.float32)
            if self._embeddings
            else np.zeros((0, 0), dtype=np.float32),
            image_id=np.array(self._image_ids, dtype=np.int64),
            file_name=np.array(self._file_names, dtype=np.str_),
            bbox_xywh=np.array(self._boxes_xywh, dtype=np.float64).reshape(-1, 4),
            score=np.array(self._scores, dtype=np.float64),
        )
