"""Durations as text."""

import pytest

from pipelines.base.clock import format_duration, parse_duration


def test_duration_has_hours_minutes_and_seconds_and_days_if_needed() -> None:
    assert [format_duration(seconds) for seconds in (0.4, 61, 3600, 90_000)] == [
        "0:00:00",
        "0:01:01",
        "1:00:00",
        "1 day, 1:00:00",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("8m", 480), ("2h", 7200), ("1h30m", 5400), ("1.5d", 129_600), ("1h 5s", 3605)]
)
def test_duration_is_read_with_its_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "m", "0s", "8 minutes", "-2h", "1e3s", "1.2.3s", "8M"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a duration above 0, such as 90s, 8m, 2h or 1h30m"):
        parse_duration(text)
