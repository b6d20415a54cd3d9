"""Names of heads and losses with what they are and where they come from; torch-free."""

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["detection", "classification", "embedding"]


@dataclass(frozen=True)
class HeadEntry:
    """A head as the job document names it."""

    name: str
    kind: TaskKind
    description: str
    losses: tuple[str, ...]
    """Names of the losses it is trained with, or can be."""
    paper: str | None = None
    """arXiv id."""


@dataclass(frozen=True)
class LossEntry:
    """A loss."""

    name: str
    kinds: tuple[TaskKind, ...]
    description: str
    paper: str | None = None
    """arXiv id."""


HEADS = {
    entry.name: entry
    for entry in (
        HeadEntry(
            "retinanet",
            "detection",
            "RetinaNet: anchors of several scales and ratios on every pyramid level",
            ("focal", "smooth_l1", "giou"),
            "1708.02002",
        ),
        HeadEntry(
            "fcos",
            "detection",
            "FCOS: locations instead of anchors, with centerness",
            ("focal", "giou", "centerness"),
            "1904.01355",
        ),
        HeadEntry("multiclass", "classification", "Exactly one class an image", ("cross_entropy",)),
        HeadEntry("multilabel", "classification", "Any number of classes an image", ("bce",)),
        HeadEntry(
            "embedding",
            "embedding",
            "Vectors of images or of objects that are close where identities are equal",
            ("proxy_anchor", "arcface", "cosface", "supcon", "ntxent", "triplet"),
        ),
    )
}

LOSSES = {
    entry.name: entry
    for entry in (
        LossEntry("focal", ("detection",), "Cross entropy with easy examples down-weighted", "1708.02002"),
        LossEntry("smooth_l1", ("detection",), "Quadratic near zero, linear beyond, of box deltas", "1504.08083"),
        LossEntry("giou", ("detection",), "Generalized intersection over union of boxes", "1902.09630"),
        LossEntry("centerness", ("detection",), "How central a location lies in its box", "1904.01355"),
        LossEntry("cross_entropy", ("classification",), "Softmax over exclusive classes"),
        LossEntry("bce", ("classification",), "Binary cross entropy, a sigmoid for each class"),
        LossEntry("proxy_anchor", ("embedding",), "A learned proxy an identity attracts and repels", "2003.13911"),
        LossEntry("arcface", ("embedding",), "Softmax over identities with an angular margin", "1801.07698"),
        LossEntry("cosface", ("embedding",), "Softmax over identities with a margin of the cosine", "1801.09414"),
        LossEntry("supcon", ("embedding",), "Contrast of all pairs of the batch by identity", "2004.11362"),
        LossEntry("ntxent", ("embedding",), "Each equal pair of the batch against the unequal ones", "2002.05709"),
        LossEntry("triplet", ("embedding",), "An unequal row farther than an equal one by a margin", "1503.03832"),
    )
}
