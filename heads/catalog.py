"""The catalog of heads and losses, with descriptions and papers. Torch-free.

Everything is derived: heads from `heads.spec`, losses from `heads.loss_rows`.
"""

from dataclasses import dataclass

from heads.loss_rows import HEAD_LOSSES, METRIC_LOSSES
from heads.spec import HEAD_SPECS


@dataclass(frozen=True)
class HeadEntry:
    """A head that the job document can select."""

    name: str
    kind: str
    description: str
    losses: tuple[str, ...]
    """Names of the losses that it is, or can be, trained with."""
    paper: str | None
    """arXiv id."""


@dataclass(frozen=True)
class LossEntry:
    """A loss, and the kinds of tasks that use it."""

    name: str
    kinds: tuple[str, ...]
    description: str
    paper: str | None
    """arXiv id."""


def _kinds_of(loss: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spec.kind for spec in HEAD_SPECS.values() if loss in spec.losses))


HEADS = {name: HeadEntry(name, spec.kind, spec.summary(), spec.losses, spec.paper) for name, spec in HEAD_SPECS.items()}
LOSSES = {
    name: LossEntry(name, _kinds_of(name), row.description, row.paper)
    for name, row in {**HEAD_LOSSES, **METRIC_LOSSES}.items()
}
