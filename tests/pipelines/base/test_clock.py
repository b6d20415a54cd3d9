"""Formatting of times."""

from pipelines.base.clock import format_duration


def test_duration_has_hours_minutes_and_seconds_and_days_if_needed() -> None:
    assert [format_duration(seconds) for seconds in (0.4, 61, 3600, 90_000)] == [
        "0:00:00",
        "0:01:01",
        "1:00:00",
        "1 day, 1:00:00",
    ]
