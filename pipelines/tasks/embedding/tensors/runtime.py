"""Embedding: targets, predictions, scores and files."""

from typing import Any

import torch

from heads.base import BoxTarget, EmbeddingPrediction, IdentityTarget
from pipelines.base.records import ImageRecord
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import Drawing, TaskSetup
from pipelines.tasks.embedding.retrieval import score_retrieval
from pipelines.tasks.embedding.spec import EmbeddingSpec
from pipelines.tasks.embedding.tensors.arrays import embedding_arrays
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.embedding.tensors.identities import named_embeddings
from pipelines.tasks.labels import box_labels
from pipelines.tasks.tensors.boxes import ResizedImage
from pipelines.tasks.tensors.outputs import ScoredBoxes
from pipelines.tasks.tensors.runtime import Pairs, TaskRuntime
from pipelines.tasks.tensors.targets import UNKNOWN, box_captions, box_target, only_name

Setup = TaskSetup[EmbeddingSpec]


class EmbeddingRuntime(TaskRuntime[EmbeddingSpec, Embeddings]):
    """Vectors of images, or of the objects in them."""

    output = Embeddings

    def encode(self, task: Setup, record: ImageRecord) -> BoxTarget | IdentityTarget:
        """Return the identity of the image, or boxes whose labels are their identities too."""
        if task.spec.of == "image":
            return IdentityTarget(torch.tensor(task.positions.get(only_name(task, record), UNKNOWN)))
        boxes = box_labels(task.name, record)
        names = [box.identity for box in boxes]
        identities = [UNKNOWN if name is None else task.positions.get(name, UNKNOWN) for name in names]
        return box_target(record, boxes, identities, identities)

    def from_network(self, prediction: EmbeddingPrediction, image: ResizedImage) -> Embeddings:
        return Embeddings.from_network(prediction)

    def with_boxes(self, output: Embeddings, boxes: ScoredBoxes) -> Embeddings:
        return output.with_boxes(boxes)

    def with_labels(self, task: Setup, output: Embeddings, record: ImageRecord) -> Embeddings:
        if task.spec.of == "image":
            return output
        return output.with_labels(box_labels(task.name, record) if task.name in record.labels else [])

    def answer(self, task: Setup, output: Embeddings) -> AnswerJson:
        return output.answer()

    def score(self, task: Setup, pairs: Pairs[Embeddings], gallery: Pairs[Embeddings] | None = None) -> dict[str, Any]:
        """Return the numbers of `score_retrieval`, and where neighbors were searched."""
        queries = named_embeddings(task, pairs)
        if task.spec.gallery == "self":
            scores = score_retrieval(queries)
        elif gallery is None:
            raise ValueError(f"task {task.name!r}: its gallery is the training split; pass its predictions too")
        else:
            scores = score_retrieval(queries, named_embeddings(task, gallery))
        return {"gallery": task.spec.gallery, **scores}

    def predictions_file(self, task: Setup, pairs: Pairs[Embeddings]) -> bytes:
        return embedding_arrays(task, pairs)

    def draw_target(self, task: Setup, target: BoxTarget | IdentityTarget) -> Drawing:
        """Return the boxes with their identities; the identity of an image is not shown."""
        if isinstance(target, IdentityTarget):
            return Drawing()
        return Drawing(target.boxes_xyxy.tolist(), box_captions(target, [c.name for c in task.categories]))


RUNTIME = EmbeddingRuntime()
