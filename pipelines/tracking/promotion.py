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
from typing import Any, Literal

from pipelines.base.errors import PyramidionError, RegistryError
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.model_versions import ModelVersion
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


@dataclass(frozen=True)
class Promotion:
    """The decision whether a version becomes the champion.

    Attributes:
        is_promoted: whether it became the champion.
        reason: `first`: the model had no champion; `stored`: compared with the champion's stored metric, of the same
            val data; `scored`: the champion was scored on that data; `same`: the version is the champion already;
            `undefined`: the metric of one of them is undefined.
        value: metric of the version.
        champion: the champion before the decision.
        champion_value: its metric.
    """

    is_promoted: bool
    reason: Literal["first", "stored", "scored", "same", "undefined"]
    value: float | None
    champion: ModelVersion | None
    champion_value: float | None


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
) -> Promotion:
    """Make `version` the champion if it is the first, or better than the current champion by `select`.

    A version whose metric is undefined is never promoted; a champion that cannot be scored remains champion. If another
    version becomes the champion meanwhile, the decision is made again.

    Args:
        registry: has the version.
        version: returned by `Registry.register`.
        select: the deciding metric and its direction.
        val_fingerprint: of the val data of the version's metrics.
        score: returns the metric of another version on that data, or None if undefined; called only if the champion's
            stored metric is of other data, or is missing.
        by: who promotes it.
    """
    value = version.metric(select.metric)
    scored: dict[int, float | None] = {}

    def metric_of(champion: ModelVersion) -> tuple[float | None, Literal["stored", "scored"]]:
        stored = champion.metric(select.metric) if champion.val_fingerprint == val_fingerprint else None
        if stored is not None:
            return stored, "stored"
        if champion.version not in scored:
            scored[champion.version] = score(champion)
        return scored[champion.version], "scored"

    for _ in range(_MAX_TRIES):
        champion = registry.by_alias(version.name, CHAMPION)
        if champion is not None and champion.version == version.version:
            return Promotion(False, "same", value, champion, value)
        if value is None:
            return Promotion(False, "undefined", value, champion, None)
        decision = Promotion(True, "first", value, None, None)
        if champion is not None:
            champion_value, reason = metric_of(champion)
            if champion_value is None or champion_value != champion_value:
                return Promotion(False, "undefined", value, champion, champion_value)
            is_better = value > champion_value if select.mode == "max" else value < champion_value
            decision = Promotion(is_better, reason, value, champion, champion_value)
        if not decision.is_promoted:
            return decision
        expected = None if champion is None else champion.version
        why = f"{select.metric} {value:.6g}"
        if decision.champion_value is not None:
            why += f" instead of {decision.champion_value:.6g}"
        try:
            move_alias(registry, version.name, CHAMPION, version.version, expected=expected, by=by, reason=why)
        except AliasMoved:
            continue
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
