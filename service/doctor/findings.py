"""The result of a check."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """One line of the report.

    Attributes:
        name: what was checked.
        outcome: `failed` if the service cannot work like this.
        detail: what was found.
        remedy: what to do; empty if it is ok.
    """

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


def checked(name: str, check: Callable[[], Iterable[CheckResult]]) -> list[CheckResult]:
    """Return the results of a check; an unexpected error is a failed check, and the others continue."""
    try:
        return list(check())
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return [CheckResult(name, "failed", detail, "read the message; if it is not clear, report it as a defect")]
