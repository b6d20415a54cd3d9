"""The registry of losses, with their descriptions and papers. Torch-free.

A row is the only place that names a loss: the document's schema, the catalog, the constructor and error messages use
these tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True)
class LossRow:
    """A loss that belongs to its head."""

    name: str
    description: str
    paper: str | None = None
    """arXiv id."""


@dataclass(frozen=True, kw_only=True)
class MetricLossRow(LossRow):
    """A loss that an embedding can be trained with.

    Attributes:
        constructor: `module:function` that returns the loss for a number of identities, the embedding's length and the
            miner (see `heads.metric_losses.create_metric_loss`).
        needs_pairs: True for a loss without weights, which is defined only for batches with a positive and a negative
            pair.
    """

    constructor: str
    needs_pairs: bool = False


R = TypeVar("R", bound=LossRow)


def _by_name(rows: Iterable[R]) -> dict[str, R]:
    return {row.name: row for row in rows}


HEAD_LOSSES = _by_name(
    [
        LossRow("focal", "Cross entropy with easy examples down-weighted", "1708.02002"),
        LossRow("smooth_l1", "Loss of box deltas that is quadratic near zero and linear beyond", "1504.08083"),
        LossRow("l1", "Absolute differences of box deltas"),
        LossRow("giou", "Generalized intersection over union of boxes", "1902.09630"),
        LossRow("centerness", "Cross entropy of how close a location is to the center of its box", "1904.01355"),
        LossRow("cross_entropy", "Softmax over exclusive classes"),
        LossRow("bce", "Binary cross entropy with a sigmoid for each class"),
    ]
)
"""Losses of detection and classification heads."""

METRIC_LOSSES = _by_name(
    [
        MetricLossRow(
            "proxy_anchor",
            "A learned proxy for each identity attracts its rows and repels all others",
            "2003.13911",
            constructor="heads.metric_losses:proxy_anchor",
        ),
        MetricLossRow(
            "arcface",
            "Softmax over identities with an angular margin",
            "1801.07698",
            constructor="heads.metric_losses:arcface",
        ),
        MetricLossRow(
            "cosface",
            "Softmax over identities with a margin on the cosine",
            "1801.09414",
            constructor="heads.metric_losses:cosface",
        ),
        MetricLossRow(
            "supcon",
            "Contrast of all pairs of the batch by identity",
            "2004.11362",
            constructor="heads.metric_losses:supcon",
            needs_pairs=True,
        ),
        MetricLossRow(
            "ntxent",
            "Contrast of each positive pair of the batch with the negative pairs",
            "2002.05709",
            constructor="heads.metric_losses:ntxent",
            needs_pairs=True,
        ),
        MetricLossRow(
            "triplet",
            "A negative must be farther away than a positive by a margin",
            "1503.03832",
            constructor="heads.metric_losses:triplet",
            needs_pairs=True,
        ),
    ]
)
"""Losses that an embedding can choose from."""
