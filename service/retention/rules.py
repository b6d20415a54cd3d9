"""Rules by age, number and size, and the items that exceed them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipelines.base.clock import format_duration
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """A limit on the items of one kind that are kept; None: no limit.

    Attributes:
        name: the setting of the number; those of the age and the size end in `_s` and `_bytes`.
        max_age_s: maximum age.
        max_count: maximum number of items, or of units that `Item.count` counts.
        max_bytes: maximum size of all items together.
    """

    name: str
    max_age_s: float | None = None
    max_count: int | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings, name: str) -> "Rule":
        """Return the rule of the settings `NAME_s`, `NAME` and `NAME_bytes`, as far as they exist."""
        return cls(
            name,
            getattr(settings, f"{name}_s", None),
            getattr(settings, name, None),
            getattr(settings, f"{name}_bytes", None),
        )

    @property
    def is_set(self) -> bool:
        """Whether anything can exceed the rule."""
        return any(limit is not None for limit in (self.max_age_s, self.max_count, self.max_bytes))


@dataclass(frozen=True)
class Item(Generic[T]):
    """An item that a rule keeps or not.

    Attributes:
        time: from which its age counts, in seconds since 1970.
        measure: returns its size in bytes; called only if a rule limits the size.
        count: number of units that it has.
    """

    what: T
    time: float
    measure: Callable[[], int]
    count: int = 1


def exceeding(items: Iterable[Item[T]], rule: Rule, now: float) -> Iterator[tuple[T, str]]:
    """Yield the items that a rule does not keep, each with the reason.

    Args:
        items: newest first. The newest ones are kept up to the number and the size of the rule.
        rule: of their kind.
        now: the present time.
    """
    num_kept = kept_bytes = 0
    is_full = False
    for item in items:
        age_s = now - item.time
        if rule.max_age_s is not None and age_s > rule.max_age_s:
            limit = f"{rule.name}_s keeps them for {format_duration(rule.max_age_s)}"
            yield item.what, f"{format_duration(age_s)} old; {limit}"
            continue
        if rule.max_count is not None and num_kept + item.count > rule.max_count:
            num_kept = rule.max_count + 1  # older items are not kept either, even if they are smaller
            yield item.what, f"{rule.name} keeps the newest {rule.max_count}"
            continue
        num_kept += item.count
        if rule.max_bytes is None:
            continue
        kept_bytes += item.measure()
        is_full = is_full or kept_bytes > rule.max_bytes
        if is_full:
            yield item.what, f"{rule.name}_bytes keeps the newest {rule.max_bytes:,} bytes"
