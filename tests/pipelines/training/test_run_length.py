"""The number of epochs that fits a budget, from seconds that are given."""

from typing import Any

import pytest

from pipelines.run_folder.schemas import Costs
from pipelines.spec.load import apply_override, validate_document
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import fill_in, min_epochs
from pipelines.training.run_length import RunLength, fitting_length, run_seconds

Document = dict[str, Any]
COSTS = Costs(step_s={"": 1.0, "c3 c4 c5": 0.25, "c3": 0.5, "c3 c4": 0.4}, validation_s=2.0, final_s=10.0)


@pytest.fixture
def model(small: Document) -> ModelSpec:
    return ModelSpec.model_validate(small["model"])


def length_of(model: ModelSpec, left_s: float, **changes: Any) -> RunLength | None:
    settings = {"num_batches": 10, "accumulated": 2, "check_every": 1, "min_epochs": min_epochs(model), **changes}
    return fitting_length(lambda number: fill_in(model, number), COSTS, left_s, **settings)


# An epoch takes 10 steps of 1 s and a validation of 2 s; 10 s follow training.
@pytest.mark.parametrize(("left_s", "num_epochs"), [(58, 4), (69.9, 4), (70, 5), (1210, 100), (1.2e5, 9999)])
def test_as_many_whole_epochs_are_planned_as_fit(left_s: float, num_epochs: int, model: ModelSpec) -> None:
    assert length_of(model, left_s) == RunLength(num_epochs, 10)


@pytest.mark.parametrize(("left_s", "num_epochs", "num_batches"), [(57, 4, 8), (34, 4, 4), (26, 4, 2), (16, 1, 4)])
def test_short_budget_has_short_epochs_of_whole_steps_and_at_least_half_of_them_is_training(
    left_s: float, num_epochs: int, num_batches: int, model: ModelSpec
) -> None:
    length = length_of(model, left_s)
    assert length == RunLength(num_epochs, num_batches)
    assert run_seconds(fill_in(model, num_epochs), COSTS, length) <= left_s


def test_budget_without_time_for_a_step_has_no_length(model: ModelSpec) -> None:
    assert length_of(model, 13.9) is None
    assert length_of(model, 14) == RunLength(1, 2)
    assert length_of(model, -5) is None


def test_epochs_with_frozen_stages_are_shorter(small: Document) -> None:
    model = ModelSpec.model_validate({**small["model"], "transfer": "lp-ft"})
    # 25 frozen epochs of 2.5 s, 75 of 10 s, 100 validations, and the end.
    assert length_of(model, 25 * 2.5 + 75 * 10 + 100 * 2 + 10) == RunLength(100, 10)
    gradual = ModelSpec.model_validate({**small["model"], "transfer": "gradual"})
    assert run_seconds(fill_in(gradual, 10), COSTS, RunLength(10, 10)) == 2.5 + 4 + 5 + 7 * 10 + 10 * 2 + 10


def test_run_has_at_least_the_epochs_that_the_document_needs(small: Document) -> None:
    model = ModelSpec.model_validate({**small["model"], "unfreeze": {0: "none", 6: "all"}})
    length = length_of(model, 58)
    assert length == RunLength(7, 10)
    assert length_of(model, 40) == RunLength(7, 6)


def test_rarer_validations_leave_more_time(model: ModelSpec) -> None:
    assert length_of(model, 70, check_every=5) == RunLength(5, 10, 5)
    assert RunLength(5, 10, 2).num_validations() == 3
    assert RunLength(5, 10, 2).num_validations(done=2) == 2


def test_document_with_a_budget_needs_no_number_of_epochs(small: Document) -> None:
    document = apply_override(apply_override(small, "trainer.budget", "8m"), "model.unfreeze", {0: "none", 12: "all"})
    job = validate_document(document)
    assert (job.trainer.budget, job.trainer.budget_s) == ("8m", 480)
