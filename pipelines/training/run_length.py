"""The number of epochs that fits a wall time, from measured seconds per batch and validation. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.run_folder.schemas import Costs
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts

MIN_PLANNED_EPOCHS = 4
"""A run for which fewer epochs fit has this many shorter epochs, after each of which its length can be corrected."""

MAX_EPOCHS = 1_000_000


@dataclass(frozen=True)
class RunLength:
    """The length of a run.

    Attributes:
        num_batches: batches of an epoch on each rank.
        check_every: epochs between two validations.
    """

    num_epochs: int
    num_batches: int
    check_every: int = 1

    def num_validations(self, done: int = 0) -> int:
        """Return the number of validations after `done` epochs: the last epoch always has one."""
        regular = self.num_epochs // self.check_every - done // self.check_every
        return regular + (self.num_epochs % self.check_every > 0)


def frozen_name(frozen: frozenset[str]) -> str:
    """Return the name of a set of frozen parts in `Costs.step_s`."""
    return " ".join(sorted(frozen))


def batch_seconds(model: ModelSpec, costs: Costs, first: int, last: int) -> float:
    """Return the sum of the seconds per batch over the epochs `first` to `last` - 1.

    Args:
        model: from a validated document, where `unfreeze` is filled in.
        costs: of this model.
        first, last: counted from 0.
    """
    assert model.unfreeze is not None
    starts = sorted(model.unfreeze)
    total = 0.0
    for start, end in zip(starts, [*starts[1:], MAX_EPOCHS], strict=True):
        num_epochs = max(0, min(end, last) - max(start, first))
        if num_epochs:
            total += num_epochs * costs.step_s[frozen_name(frozen_parts(model, start))]
    return total


def run_seconds(model: ModelSpec, costs: Costs, length: RunLength, done: int = 0) -> float:
    """Return the seconds from the end of epoch `done` to the end of the run."""
    training_s = length.num_batches * batch_seconds(model, costs, done, length.num_epochs)
    return training_s + length.num_validations(done) * costs.validation_s + costs.final_s


def largest(fits: Callable[[int], bool], smallest: int) -> int:
    """Return the largest number of epochs that fits, or `smallest` - 1; whatever is below a number that fits, fits."""
    if not fits(smallest):
        return smallest - 1
    low, high = smallest, smallest + 1
    while high < MAX_EPOCHS and fits(high):
        low, high = high, min(2 * high, MAX_EPOCHS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fitting_length(
    model_of: Callable[[int], ModelSpec],
    costs: Costs,
    left_s: float,
    *,
    num_batches: int,
    accumulated: int,
    check_every: int,
    min_epochs: int,
) -> RunLength | None:
    """Return the longest run that fits into `left_s`; None if not even one optimizer step per epoch fits.

    Args:
        model_of: returns the section `model` of the document for a number of epochs.
        costs: measured.
        left_s: seconds that remain, including validation and what follows training.
        num_batches: batches of a whole epoch on each rank.
        accumulated: batches of an optimizer step.
        check_every: epochs between two validations.
        min_epochs: the smallest number of epochs that the document allows.
    """

    def whole(num_epochs: int) -> RunLength:
        return RunLength(num_epochs, num_batches, check_every)

    wanted = max(min_epochs, MIN_PLANNED_EPOCHS)
    fitting = largest(lambda number: run_seconds(model_of(number), costs, whole(number)) <= left_s, wanted)
    if fitting >= wanted:
        return whole(fitting)
    for num_epochs in range(wanted, min_epochs - 1, -1):
        length = RunLength(num_epochs, 0, check_every)
        training_s = left_s - run_seconds(model_of(num_epochs), costs, length)
        batches = int(training_s / batch_seconds(model_of(num_epochs), costs, 0, num_epochs))
        # Validations of a large val split could leave almost no time for training in many short epochs.
        is_worthwhile = training_s >= 0.5 * (left_s - costs.final_s) or num_epochs == min_epochs
        if is_worthwhile and batches >= accumulated:
            return RunLength(num_epochs, min(num_batches, batches // accumulated * accumulated), check_every)
    return None
