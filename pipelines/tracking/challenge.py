"""The decision whether a registered version becomes the champion. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from pipelines.run_folder.schemas import PromotionRecord
from pipelines.spec.learning import SelectSpec
from pipelines.spec.training import PromoteIf
from pipelines.tracking.model_versions import ModelVersion

Interval = tuple[float, float]
"""Lower and upper end of the difference of the metric to that of the champion."""


def no_interval(champion: ModelVersion) -> Interval | None:
    """Return None: the interval of the difference to a champion is not known."""
    return None


@dataclass(frozen=True)
class Promotion:
    """The decision whether a version becomes the champion.

    Attributes:
        is_promoted: whether it became the champion.
        reason: `first`: the model had no champion; `stored`: compared with the champion's stored metric, of the same
            val data; `scored`: the champion was scored on that data; `same`: the version is the champion already;
            `undefined`: the metric of one of them is undefined; `unsure`: it is better, but the interval of the
            difference contains zero; `no_interval`: it is better, but the interval is not known; `by_hand`: the
            document allows no automatic promotion.
        value: metric of the version.
        champion: the champion before the decision.
        champion_value: its metric.
        interval: of the difference; None where it was not computed.
    """

    is_promoted: bool
    reason: Literal["first", "stored", "scored", "same", "undefined", "unsure", "no_interval", "by_hand"]
    value: float | None
    champion: ModelVersion | None
    champion_value: float | None
    interval: Interval | None = None

    def record(self, promote_if: PromoteIf, metric: str) -> PromotionRecord:
        """Return the decision for a tag of the version and registration.json."""
        low, high = self.interval or (None, None)
        return PromotionRecord(
            promote_if=promote_if,
            metric=metric,
            is_promoted=self.is_promoted,
            reason=self.reason,
            value=self.value,
            champion=None if self.champion is None else self.champion.version,
            champion_value=self.champion_value,
            low=low,
            high=high,
        )

    def explanation(self, metric: str) -> str:
        """Return the numbers that decided, such as `val/cells/AP 0.52 instead of 0.5`; empty without a champion."""
        if self.champion is None or self.reason == "same":
            return ""
        value, other = (f"{x:.4g}" if x is not None else "undefined" for x in (self.value, self.champion_value))
        text = f"{metric} {value}, that of champion version {self.champion.version} {other}"
        if self.interval is not None:
            low, high = self.interval
            text += f", 95 % interval of the difference {low:+.4g} to {high:+.4g}"
        meanings = {
            "unsure": "the interval contains zero",
            "no_interval": "its interval is not known",
            "by_hand": "tracking.promote_if is never",
        }
        return f"{text}; {meanings[self.reason]}" if self.reason in meanings else text


@dataclass
class Challenge:
    """A version that may become the champion.

    Attributes:
        version: returned by `Registry.register`.
        select: the deciding metric and its direction.
        promote_if: the rule of the document.
        val_fingerprint: of the val data of the version's metrics.
        score: returns the metric of another version on that data, or None if undefined; called only if the champion's
            stored metric is of other data, or is missing.
        interval: returns the interval of the difference to another version on that data, or None if it is not known;
            called only if the version is better and the rule needs it.
    """

    version: ModelVersion
    select: SelectSpec
    promote_if: PromoteIf
    val_fingerprint: str
    score: Callable[[ModelVersion], float | None]
    interval: Callable[[ModelVersion], Interval | None] = no_interval
    _scored: dict[int, float | None] = field(default_factory=dict)
    _intervals: dict[int, Interval | None] = field(default_factory=dict)

    def decide(self, champion: ModelVersion | None) -> Promotion:
        """Return whether the version becomes the champion instead of the present one."""
        value = self.version.metric(self.select.metric)
        if champion is not None and champion.version == self.version.version:
            return Promotion(False, "same", value, champion, value)
        if self.promote_if == "never":
            known = None if champion is None else self._stored(champion)
            return Promotion(False, "by_hand", value, champion, known)
        if value is None:
            return Promotion(False, "undefined", value, champion, None)
        if champion is None:
            return Promotion(True, "first", value, None, None)
        champion_value, reason = self._metric_of(champion)
        if champion_value is None or champion_value != champion_value:
            return Promotion(False, "undefined", value, champion, champion_value)
        is_better = value > champion_value if self.select.mode == "max" else value < champion_value
        decision = Promotion(is_better, reason, value, champion, champion_value)
        return self._checked(decision, champion) if is_better and self.promote_if == "surely_better" else decision

    def _checked(self, decision: Promotion, champion: ModelVersion) -> Promotion:
        if champion.version not in self._intervals:
            self._intervals[champion.version] = self.interval(champion)
        interval = self._intervals[champion.version]
        if interval is None:
            return replace(decision, is_promoted=False, reason="no_interval")
        low, high = interval
        if low > 0 if self.select.mode == "max" else high < 0:
            return replace(decision, interval=interval)
        return replace(decision, is_promoted=False, reason="unsure", interval=interval)

    def _stored(self, champion: ModelVersion) -> float | None:
        return champion.metric(self.select.metric) if champion.val_fingerprint == self.val_fingerprint else None

    def _metric_of(self, champion: ModelVersion) -> tuple[float | None, Literal["stored", "scored"]]:
        if (stored := self._stored(champion)) is not None:
            return stored, "stored"
        if champion.version not in self._scored:
            self._scored[champion.version] = self.score(champion)
        return self._scored[champion.version], "scored"
