"""Settings of every head, with defaults, ranges and descriptions; those of detection are in `heads.detection_spec`.

The job document's schema and help, the catalog and the constructors derive from these classes. A class with a field
`head` registers a head: the literal is its name, and `implementation` names the module that builds it. Torch-free.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

import heads.detection_spec  # noqa: F401  # its import registers the detection heads
from heads.head_spec import HeadSpec, ShareBelowOne, Width
from heads.loss_rows import METRIC_LOSSES

Pool = Literal["avg", "max", "avgmax"]
Miner = Literal["all", "hard", "semihard"]
# Type checkers do not accept a computed Literal.
if TYPE_CHECKING:
    MetricLoss: TypeAlias = str
else:
    MetricLoss = Literal[tuple(METRIC_LOSSES)]


class ClassificationHeadSpec(HeadSpec):
    """Settings of a head that classifies whole images: pooled features and a linear layer."""

    kind = "classification"
    decoder = "heads.classification:decode_scores"
    is_multilabel: ClassVar[bool] = False
    """True if an image can have any number of classes; False if it has exactly one."""

    level: Literal["c3", "c4", "c5", "p3", "p4", "p5"] = Field(
        "c5", description="level of the backbone or the pyramid whose features are pooled"
    )
    pool: Pool = Field("avg", description="pooling over the map: mean, maximum, or both concatenated")
    dropout: ShareBelowOne = Field(0.0, description="probability of dropout before the linear layer")
    label_smoothing: ShareBelowOne = Field(
        0.0, description="share of the target that is spread evenly over all classes"
    )


class MulticlassHeadSpec(ClassificationHeadSpec):
    """Exactly one class per image."""

    implementation = "heads.classification:MulticlassHead"
    losses = ("cross_entropy",)

    head: Literal["multiclass"]


class MultilabelHeadSpec(ClassificationHeadSpec):
    """Any number of classes per image."""

    implementation = "heads.classification:MultilabelHead"
    losses = ("bce",)
    is_multilabel = True

    head: Literal["multilabel"]


class EmbeddingHeadSpec(HeadSpec):
    """Vectors of images or of objects that are close where identities are equal."""

    kind = "embedding"
    implementation = "heads.embedding:create_embedding_head"
    decoder = "heads.embedding:decode_embeddings"
    losses = tuple(METRIC_LOSSES)

    head: Literal["embedding"]
    of: Literal["image", "objects"] = Field("image", description="what is embedded: whole images, or boxes of objects")
    dim: Width = Field(128, description="length of the vectors")
    loss: MetricLoss = Field("proxy_anchor", description="name of the loss, see `GET /v1/catalog/losses`")
    miner: Miner = Field("semihard", description="selects the triplets that count; for loss: triplet")


def _registered(spec: type[HeadSpec]) -> Iterator[tuple[str, type[HeadSpec]]]:
    """Yield the name and class of every head that derives from a class, in the order of the file."""
    if "head" in vars(spec).get("__annotations__", {}):
        yield get_args(spec.model_fields["head"].annotation)[0], spec
    for subclass in spec.__subclasses__():
        yield from _registered(subclass)


HEAD_SPECS: dict[str, type[HeadSpec]] = dict(_registered(HeadSpec))
"""All heads by name: the classes here and in `heads.detection_spec` that have a field `head`."""


def head_spec(name: str, **options: Any) -> HeadSpec:
    """Return the settings of a head by its name.

    Raises:
        ValueError: the name is unknown, or an option is unknown or out of its range.
    """
    if name not in HEAD_SPECS:
        nearest = get_close_matches(name, HEAD_SPECS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"head {name!r} is not in the catalog; {hint}choose from {sorted(HEAD_SPECS)}")
    return HEAD_SPECS[name].model_validate({"head": name, **options})
