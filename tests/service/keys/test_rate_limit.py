"""The limit on the rate of requests."""

import pytest

from service.keys.rate_limit import RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_burst_of_one_minute_is_admitted_and_later_requests_wait_for_a_token() -> None:
    clock = Clock()
    rates = RateLimit(clock)
    assert [rates.wait_s("key", 6) for _ in range(6)] == [0.0] * 6
    assert rates.wait_s("key", 6) == pytest.approx(10.0)
    clock.now = 9.0
    assert rates.wait_s("key", 6) == pytest.approx(1.0)
    clock.now = 10.5
    assert rates.wait_s("key", 6) == 0.0
    assert rates.wait_s("key", 6) == pytest.approx(9.5)
    clock.now = 1e6
    assert [rates.wait_s("key", 6) for _ in range(7)].count(0.0) == 6


def test_keys_have_buckets_of_their_own() -> None:
    rates = RateLimit(Clock())
    assert [rates.wait_s(key, 1) for key in ("a", "b", "a")] == [0.0, 0.0, pytest.approx(60.0)]
