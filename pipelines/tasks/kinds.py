"""The registry of task kinds: one row each. Torch-free."""

from typing import TYPE_CHECKING, Any, Literal, Optional, TypeAlias, get_args

from pydantic import Field

from pipelines.tasks.base import TaskKind, TaskSpec
from pipelines.tasks.classification.kind import ClassificationKind
from pipelines.tasks.detection.kind import DetectionKind
from pipelines.tasks.embedding.kind import EmbeddingKind

KINDS: dict[str, TaskKind[Any]] = {
    "detection": DetectionKind(),
    "classification": ClassificationKind(),
    "embedding": EmbeddingKind(),
}
"""All kinds by the name that they have in result.json."""

if TYPE_CHECKING:
    KindName: TypeAlias = str
else:
    KindName = Literal[tuple(KINDS)]

TASK_SPECS: dict[str, type[TaskSpec]] = {
    get_args(spec.model_fields["head"].annotation)[0]: spec for kind in KINDS.values() for spec in kind.specs
}
"""The section of a task in the document by the name of its head."""

_BY_SPEC = {spec: kind for kind in KINDS.values() for spec in kind.specs}


def answer_fields() -> dict[str, Any]:
    """Return the fields of the answers of all kinds for `pydantic.create_model`, each of them optional."""
    fields = {name: field for kind in KINDS.values() for name, field in kind.answer.model_fields.items()}
    return {
        name: (Optional[field.annotation], Field(None, description=field.description))  # noqa: UP045
        for name, field in fields.items()
    }


def kind_of(spec: TaskSpec) -> TaskKind[Any]:
    """Return the kind of a task, given its section of the document."""
    return _BY_SPEC[type(spec)]
