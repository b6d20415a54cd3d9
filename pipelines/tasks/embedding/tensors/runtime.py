"""Embedding: targets, predictions, scores and files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heads.base import BoxTarget, EmbeddingPrediction, IdentityTarget
from pipelines.base.records import ImageRecord
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.embedding.retrieval import NamedEmbeddings, score_retrieval, search
from pipelines.tasks.embedding.spec import EmbeddingSpec
from pipelines.tasks.embedding.tensors.arrays import embedding_arrays
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.embedding.tensors.identities import named_embeddings
from pipelines.tasks.embedding.worst_queries import worst_queries
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
        queries, places = named_embeddings(task, pairs)
        items, searched, searched_places = None, pairs, places
        if task.spec.gallery != "self":
            if gallery is None:
                raise ValueError(f"task {task.name!r}: its gallery is the training split; pass its predictions too")
            searched = gallery
            items, searched_places = named_embeddings(task, gallery)
        found = search(queries, items)
        names = queries.identities if items is None else items.identities
        return {
            "gallery": task.spec.gallery,
            **score_retrieval(queries, items, found=found),
            "worst_queries": [
                {
                    **_item(pairs, places[query.position], queries.identities[query.position]),
                    "map_at_r": query.map_at_r,
                    "first_found": query.first_found,
                    "neighbors": [
                        {**_item(searched, searched_places[item], names[item]), "similarity": similarity}
                        for item, similarity in zip(query.neighbors, query.similarities, strict=True)
                    ],
                }
                for query in worst_queries(queries, items, found)
            ],
        }

    def score_part(
        self, task: Setup, pairs: Pairs[Embeddings], is_part: Sequence[bool], gallery: Pairs[Embeddings] | None = None
    ) -> dict[str, Any]:
        """Return the numbers of the queries in some images; the gallery is that of all queries."""
        if task.spec.gallery != "self":
            return super().score_part(task, pairs, is_part, gallery)
        whole, places = named_embeddings(task, pairs)
        own = np.flatnonzero(np.array(is_part, dtype=bool)[places[:, 0]])
        queries = NamedEmbeddings(whole.embeddings[own], whole.identities[own])
        return {"gallery": task.spec.gallery, **score_retrieval(queries, whole, own=own), "worst_queries": []}

    def predictions_file(self, task: Setup, pairs: Pairs[Embeddings]) -> bytes:
        return embedding_arrays(task, pairs)

    def draw_target(self, task: Setup, target: BoxTarget | IdentityTarget) -> Drawing:
        """Return the boxes with their identities; the identity of an image is not shown."""
        if isinstance(target, IdentityTarget):
            return Drawing()
        return Drawing(target.boxes_xyxy.tolist(), box_captions(target, [c.name for c in task.categories]))


def _item(pairs: Pairs[Embeddings], place: NDArray[np.int64], identity: np.str_) -> dict[str, Any]:
    """Return the fields of `EmbeddedItem`; the place is one of `named_embeddings`."""
    position, row = place.tolist()
    record, output = pairs[position]
    return {
        "image_id": record.image_id,
        "file_name": record.file_name,
        "annotation_id": None if output.annotation_ids is None else int(output.annotation_ids[row]),
        "identity": str(identity),
    }


RUNTIME = EmbeddingRuntime()
