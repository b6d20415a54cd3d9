"""Terms become one number; on several ranks see test_two_ranks.py."""

import pytest
import torch

from pipelines.training.balancing import combine


def term(total: float, count: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(total, requires_grad=True), torch.tensor(count)


def test_each_term_is_divided_by_its_count_and_each_task_weighted() -> None:
    losses = {"cells": {"boxes": term(6.0, 4.0), "classes": term(3.0, 2.0)}, "kind": {"ce": term(10.0, 5.0)}}
    combined = combine(losses, {"cells": 2.0, "kind": 0.5})
    assert {name: float(value) for name, value in combined.terms.items()} == {
        "cells/boxes": 1.5,
        "cells/classes": 1.5,
        "kind/ce": 2.0,
    }
    assert float(combined.total) == pytest.approx(2 * (1.5 + 1.5) + 0.5 * 2.0)
    combined.total.backward()
    assert losses["cells"]["boxes"][0].grad == pytest.approx(2.0 / 4)
    assert losses["kind"]["ce"][0].grad == pytest.approx(0.5 / 5)


def test_term_without_anything_to_count_keeps_its_sum() -> None:
    combined = combine({"cells": {"classes": term(3.0, 0.0)}}, {"cells": 1.0})
    assert float(combined.total) == float(combined.terms["cells/classes"]) == 3.0


def test_terms_are_unweighted_and_detached() -> None:
    combined = combine({"kind": {"ce": term(4.0, 2.0)}}, {"kind": 100.0})
    assert float(combined.terms["kind/ce"]) == 2.0
    assert not combined.terms["kind/ce"].requires_grad


def test_half_precision_terms_are_added_in_float32() -> None:
    half = torch.tensor(1000.0, dtype=torch.bfloat16), torch.tensor(3.0)
    assert combine({"kind": {"ce": half}}, {"kind": 1.0}).total.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_term_that_is_not_finite_shows_in_its_own_name_alone(value: float) -> None:
    terms = combine({"a": {"x": term(1.0, 1.0)}, "b": {"x": term(value, 1.0)}}, {"a": 1.0, "b": 1.0}).terms
    assert [name for name, mean in terms.items() if not torch.isfinite(mean)] == ["b/x"]
