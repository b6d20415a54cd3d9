"""The decision whether an export may be served. Torch-free."""

from collections.abc import Mapping

from pipelines.evaluation.conditions import main_metrics
from pipelines.spec.exported_variant import Gate, MetricPair, Parity
from pipelines.spec.model import ModelSpec

MAX_SCORE_DIFFERENCE = 1e-4
MAX_BOX_DIFFERENCE_PX = 0.05
MAX_EMBEDDING_DIFFERENCE = 1e-4
MAX_MISSING_DETECTIONS = 0.001
"""Scores that are equal up to rounding can change places at a limit, such as the number of detections of an image."""


def decide(spec: ModelSpec, metrics: Mapping[str, MetricPair], parity: Parity | None, max_drop: float) -> Gate:
    """Return whether an export passes, and the reasons if it does not.

    Args:
        spec: `model` of the document.
        metrics: on val, by `val/<task>/<metric>`.
        parity: None: the export is not expected to compute the same numbers.
        max_drop: by how much the main metric of each task may fall.
    """
    reasons = [] if parity is None else _parity_reasons(parity)
    names = [f"{task}/{metric}" for task, metric in main_metrics(spec).items()]
    for name in (f"val/{own}" for own in names):
        pair = metrics[name]
        if pair.torch is None:
            continue
        if pair.variant is None:
            reasons.append(f"{name} is undefined, and {pair.torch:.4f} in torch")
        elif pair.torch - pair.variant > max_drop:
            drop = f"falls by {pair.torch - pair.variant:.4f}, from {pair.torch:.4f} to {pair.variant:.4f}"
            reasons.append(f"{name} {drop}; at most {max_drop:g} is allowed (--max-drop)")
    return Gate(max_drop=max_drop, metrics=tuple(names), reasons=tuple(reasons))


def _parity_reasons(parity: Parity) -> list[str]:
    limits = [
        ("scores differ", parity.scores, MAX_SCORE_DIFFERENCE, ""),
        ("boxes differ", parity.boxes_px, MAX_BOX_DIFFERENCE_PX, " px"),
        ("embeddings differ", parity.embeddings, MAX_EMBEDDING_DIFFERENCE, ""),
    ]
    reasons = [
        f"{what} from those of torch by up to {value:.2g}{unit}; at most {limit:g}{unit} is allowed in float32"
        for what, value, limit, unit in limits
        if value is not None and value > limit
    ]
    if parity.missing_detections > MAX_MISSING_DETECTIONS:
        share = f"{parity.missing_detections:.2%} of the detections of torch are missing"
        reasons.append(f"{share}; at most {MAX_MISSING_DETECTIONS:.1%} may be missing in float32")
    return reasons
