"""The rate of each step equals a hand-computed number."""

import pytest
import torch

from pipelines.optim.schedules import create_schedule, decay_of, rate_factor
from pipelines.spec.learning import ScheduleSpec

COSINE = ScheduleSpec(warmup_steps=4, decay="cosine", final_ratio=0.1)


@pytest.mark.parametrize(
    ("step", "factor"),
    # 4 steps of warm-up, then 9 steps: at 0, 1/8 .. 8/8 of the half cosine; 0.1 + 0.9 * (1 + cos(pi / 4)) / 2 = 0.8682.
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (6, 0.868198), (8, 0.55), (10, 0.231802), (12, 0.1), (13, 0.1)],
)
def test_cosine_falls_from_one_after_the_warm_up_to_the_final_ratio_at_the_last_step(step: int, factor: float) -> None:
    assert rate_factor(step, decay_of(COSINE, 13), COSINE) == pytest.approx(factor, abs=1e-6)


def test_rate_is_constant_after_the_warm_up() -> None:
    spec = ScheduleSpec(warmup_steps=2, decay="constant")
    assert [rate_factor(step, decay_of(spec, 5), spec) for step in range(5)] == [0.5, 1, 1, 1, 1]


def test_first_step_without_warm_up_has_the_full_rate() -> None:
    spec = ScheduleSpec(warmup_steps=0, final_ratio=0)
    assert rate_factor(0, decay_of(spec, 3), spec) == 1
    assert rate_factor(2, decay_of(spec, 3), spec) == pytest.approx(0)


@pytest.mark.parametrize("total_steps", [1, 4, 5])
def test_rates_of_a_run_shorter_than_its_warm_up_are_finite(total_steps: int) -> None:
    assert all(0 < rate_factor(step, decay_of(COSINE, total_steps), COSINE) <= 1 for step in range(total_steps))


def test_schedule_scales_the_rates_of_all_groups_by_the_same_factor() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.25)]
    optimizer = torch.optim.SGD(groups)
    schedule = create_schedule(optimizer, COSINE, decay_of(COSINE, 13))
    rates = []
    for _ in range(13):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates[0] == [0.25, 0.0625]
    assert rates[8] == pytest.approx([0.55, 0.1375])
    assert rates[12] == pytest.approx([0.1, 0.025])


@pytest.mark.parametrize(("now", "last"), [(6, 9), (6, 40), (11, 13)])
def test_rates_have_no_jump_and_end_with_the_final_ratio_when_the_last_step_changes(now: int, last: int) -> None:
    decay = decay_of(COSINE, 13)
    before = [rate_factor(step, decay, COSINE) for step in range(now + 1)]
    decay.end_at(last, now)
    after = [rate_factor(step, decay, COSINE) for step in range(now, last + 1)]
    assert after[0] == before[-1]
    assert after == sorted(after, reverse=True)
    assert after[-1] == pytest.approx(COSINE.final_ratio)
    changed_again = decay_of(COSINE, 0)
    changed_again.state = decay.state
    assert rate_factor(last - 1, changed_again, COSINE) == after[-2]


def test_change_during_the_warm_up_equals_a_run_of_that_length() -> None:
    decay = decay_of(COSINE, 13)
    decay.end_at(19, now=2)
    expected = [rate_factor(step, decay_of(COSINE, 20), COSINE) for step in range(20)]
    assert [rate_factor(step, decay, COSINE) for step in range(20)] == expected
