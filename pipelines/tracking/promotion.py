"""Moves of aliases: by comparison with what they point to, with a history. Torch-free.

MLflow does not compare and swap. A lock excludes the other processes of this host; on several hosts, an alias is read
before and after it is written, and a move that was overtaken is decided again. What remains: two hosts that write the
same alias within the same milliseconds, of which the first has read its own write before the second one writes.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.base.errors import PyramidionError, RegistryError
from pipelines.spec.learning import SelectSpec
from pipelines.spec.training import PromoteIf
from pipelines.tracking.challenge import Challenge, Interval, Promotion, no_interval
from pipelines.tracking.model_versions import PROMOTION_TAG, ModelVersion
from pipelines.tracking.registry import CHAMPION, Registry

MAX_REASON_LENGTH = 1000
MAX_HISTORY = 200
"""Number of moves to keep for each model."""
_MAX_TRIES = 5
_PREFIX = "pyramidion.alias_move."


class AliasMoved(PyramidionError):
    """The alias does not point to the expected version; `present` is the version that it points to."""

    def __init__(self, name: str, alias: str, present: int | None) -> None:
        self.present = present
        where = "no version" if present is None else f"version {present}"
        super().__init__(f"{name}@{alias} points to {where}; read it again before you move it")


@dataclass(frozen=True)
class AliasMove:
    """A move of an alias in the past; `at` is in seconds since 1970; None: no version."""

    alias: str
    from_version: int | None
    to_version: int | None
    by: str
    at: float
    reason: str


def move_alias(
    registry: Registry, name: str, alias: str, to: int | None, *, expected: int | None, by: str, reason: str
) -> None:
    """Point an alias to another version, and record that.

    Args:
        registry: has the model.
        name: of the model.
        alias: of the model.
        to: the version; None removes the alias.
        expected: the version that it points to before; None: it does not exist.
        by: who moves it.
        reason: why; it is cut after `MAX_REASON_LENGTH` characters.

    Raises:
        AliasMoved: it pointed to another version, or somebody else has moved it at the same time.
        RegistryError: MLflow does not respond or refuses the request.
    """
    with registry.store.locked("aliases"):
        _require(registry, name, alias, expected)
        if to is None:
            registry.remove_alias(name, alias)
        else:
            registry.set_alias(name, alias, to)
        _record(registry, name, AliasMove(alias, expected, to, by, time.time(), reason[:MAX_REASON_LENGTH]))
        _require(registry, name, alias, to)


def alias_moves(registry: Registry, name: str) -> list[AliasMove]:
    """Return the recorded moves of all aliases of a model, newest first."""
    return [move for _, move in _recorded(registry, name)]


def promote_if_better(
    registry: Registry,
    version: ModelVersion,
    *,
    select: SelectSpec,
    val_fingerprint: str,
    score: Callable[[ModelVersion], float | None],
    by: str,
    promote_if: PromoteIf = "better",
    interval: Callable[[ModelVersion], Interval | None] = no_interval,
) -> Promotion:
    """Make `version` the champion if it is the first, or better than the current champion by `select`.

    A version whose metric is undefined is never promoted; a champion that cannot be scored remains champion. If another
    version becomes the champion meanwhile, the decision is made again. The decision becomes a tag of the version.

    Args:
        registry: has the version.
        version: returned by `Registry.register`.
        select, val_fingerprint, score: see `Challenge`.
        by: who promotes it.
        promote_if: the rule: `surely_better` also requires that `interval` excludes zero, `never` promotes nothing.
        interval: see `Challenge`.
    """
    challenge = Challenge(version, select, promote_if, val_fingerprint, score, interval)
    for _ in range(_MAX_TRIES):
        champion = registry.by_alias(version.name, CHAMPION)
        decision = challenge.decide(champion)
        if decision.is_promoted:
            expected = None if champion is None else champion.version
            why = f"{select.metric} {decision.value:.6g}"
            if decision.champion_value is not None:
                why += f" instead of {decision.champion_value:.6g}"
            try:
                move_alias(registry, version.name, CHAMPION, version.version, expected=expected, by=by, reason=why)
            except AliasMoved:
                continue
        if decision.reason != "same":  # which would hide how it became the champion
            record = decision.record(promote_if, select.metric)
            registry.set_version_tag(version, PROMOTION_TAG, record.to_json())
        return decision
    raise RegistryError(f"{version.name}: the champion has moved {_MAX_TRIES} times during the comparison with it")


def _require(registry: Registry, name: str, alias: str, expected: int | None) -> None:
    present = (registry.aliases(name) or {}).get(alias)
    if present != expected:
        raise AliasMoved(name, alias, present)


def _record(registry: Registry, name: str, move: AliasMove) -> None:
    recorded = _recorded(registry, name)
    # The time comes first, so that keys are in order; two moves of different hosts may have the same time.
    registry.set_tag(name, f"{_PREFIX}{move.at:017.6f}.{uuid.uuid4().hex[:8]}", json.dumps(move.__dict__))
    for key, _ in recorded[MAX_HISTORY - 1 :]:
        registry.remove_tag(name, key)


def _recorded(registry: Registry, name: str) -> list[tuple[str, AliasMove]]:
    """Return the recorded moves with their keys, newest first; tags that others wrote are skipped."""
    tags = registry.tags(name)
    found = [(key, _read(tags[key])) for key in sorted(tags, reverse=True) if key.startswith(_PREFIX)]
    return [(key, move) for key, move in found if move is not None]


def _read(text: str) -> AliasMove | None:
    try:
        values: Any = json.loads(text)
        move = AliasMove(**values)
        float(move.at)
    except (TypeError, ValueError):
        return None
    return move
