"""The task kind `embedding`: its required labels, its metrics and the formats of its results. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.layer import LabelKind
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskKind
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.embedding.answer_files import EmbeddingArrays
from pipelines.tasks.embedding.schemas import EmbeddingAnswer, EmbeddingResult
from pipelines.tasks.embedding.spec import EMBEDDING_SPECS, EmbeddingSpec

if TYPE_CHECKING:
    from pipelines.tasks.numpy_answer import NumpyFunction
    from pipelines.tasks.resampling import ScoredImages
    from pipelines.tasks.stored_embeddings import StoredEmbeddings


class EmbeddingKind(TaskKind[EmbeddingSpec]):
    """Embeds images, or the objects that a detection task finds."""

    name = "embedding"
    specs = EMBEDDING_SPECS
    result = EmbeddingResult
    answer = EmbeddingAnswer
    metrics = ("recall_at_1", "recall_at_5", "recall_at_10", "r_precision", "map_at_r", "macro_recall_at_1", "nmi")
    plotted_metrics = ("recall_at_1", "r_precision", "map_at_r", "nmi")
    class_columns = ("identity", "support", "recall_at_1")
    plotted_class_columns = ("recall_at_1",)
    predictions = EmbeddingArrays.format
    answer_files = (EmbeddingArrays,)
    counted_labels = "identities"
    answer_rows = "embeddings"

    def needed_labels(self, spec: EmbeddingSpec) -> frozenset[LabelKind]:
        """Return classes for whole images, where the class is the identity, and boxes with identities for objects."""
        return frozenset({"boxes", "identities"} if self.takes_boxes(spec) else {"classes"})

    def identity_field(self, spec: EmbeddingSpec) -> str | None:
        return spec.identity if self.takes_boxes(spec) else None

    def labels_combined_images(self, spec: EmbeddingSpec) -> bool:
        return self.takes_boxes(spec)

    def takes_boxes(self, spec: EmbeddingSpec) -> bool:
        return spec.of == "objects"

    def box_source(self, spec: EmbeddingSpec) -> str | None:
        return spec.boxes_from

    def searches_training_split(self, spec: EmbeddingSpec) -> bool:
        return spec.gallery == "train"

    def main_metric(self, spec: EmbeddingSpec) -> str:
        return "recall_at_1"

    def table_caption(self, result: Mapping[str, Any]) -> str:
        return f"{result['num_queries']} queries, {result['num_left_out']} left out, gallery {result['gallery']}"

    def scored_images(self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None) -> "ScoredImages":
        from pipelines.tasks.embedding.resampling import ScoredQueries

        return ScoredQueries.read(predictions, result)

    def stored_embeddings(self, predictions: Path) -> "StoredEmbeddings":
        from pipelines.tasks.embedding.stored_embeddings import read_stored_embeddings

        return read_stored_embeddings(predictions)

    def numpy_functions(self, spec: EmbeddingSpec) -> "tuple[NumpyFunction, ...]":
        from pipelines.tasks.embedding.numpy_answer import image_embedding, object_embeddings
        from pipelines.tasks.numpy_detections import all_objects, best_objects, non_max_suppression

        if spec.of == "image":
            return (image_embedding,)
        return (non_max_suppression, all_objects, best_objects, object_embeddings)

    def draw(self, name: str, answer: AnswerJson) -> Drawing:
        """Return an empty drawing, because vectors are not shown."""
        return Drawing()
