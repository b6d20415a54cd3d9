"""The only module that uses Optuna: it suggests the values of a trial, and finds trials to prune.

The database is the truth. A study exists only during a call: it is rebuilt from the stored trials, and its sampler is
seeded by the number of the trial. So a suggestion depends on nothing but the document and the trials, and a supervisor
that was killed is replaced by one that suggests the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.spec.sweep import CategoricalValues, IntRange, SearchSpace, SweepSpec
from service.states import TrialState
from service.store.sweep_records import SweepTrial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

MAX_SEED = 2**32
STARTUP_TRIALS = 10
"""Trials with random values before TPE models them, or a quarter of all trials if those are fewer."""


def suggest(spec: SweepSpec, trials: Sequence[SweepTrial]) -> dict[str, Any]:
    """Return the values of the next trial.

    Args:
        spec: the document of the sweep.
        trials: all earlier ones, in their order; those that are running count as if they would not be better.
    """
    with _quiet():
        study = _study(spec, sampler=_sampler(spec, len(trials)))
        for trial in trials:
            study.add_trial(_frozen(spec, trial))
        suggested = study.ask(_distributions(spec)).params
    return {name: _value_of(space, suggested[name]) for name, space in spec.search.items()}


def to_prune(spec: SweepSpec, trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Return the running trials that are worse than others after the same number of epochs.

    The reports of all trials are replayed in their order, so that a decision is the same however often it is made.
    """
    if spec.pruner is None or not any(trial.reports for trial in trials):
        return []
    from optuna.pruners import SuccessiveHalvingPruner

    pruner = SuccessiveHalvingPruner(min_resource=spec.pruner.min_epochs, reduction_factor=spec.pruner.reduction_factor)
    reports = sorted(((report, trial) for trial in trials for report in trial.reports), key=lambda pair: pair[0].seq)
    found: dict[int, SweepTrial] = {}
    with _quiet():
        study = _study(spec, pruner=pruner)
        replayed = [study.ask() for _ in trials]
        seen: set[tuple[int, int]] = set()
        for report, trial in reports:
            # A resumed attempt repeats the epochs after its checkpoint.
            if report.value is None or trial.number in found or (trial.number, report.epoch) in seen:
                continue
            seen.add((trial.number, report.epoch))
            replayed[trial.number].report(report.value, report.epoch + 1)
            if replayed[trial.number].should_prune():
                found[trial.number] = trial
    return [trial for trial in found.values() if trial.state is TrialState.RUNNING]


def _study(spec: SweepSpec, sampler: "BaseSampler | None" = None, pruner: "BasePruner | None" = None) -> "Study":
    import optuna

    return optuna.create_study(
        direction=spec.direction or "maximize",
        sampler=sampler or optuna.samplers.RandomSampler(seed=0),
        pruner=pruner or optuna.pruners.NopPruner(),
    )


def _sampler(spec: SweepSpec, number: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    seed = (spec.seed + 1_000_003 * number) % MAX_SEED
    if spec.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=min(STARTUP_TRIALS, max(2, spec.trials // 4)))


def _frozen(spec: SweepSpec, trial: SweepTrial) -> "FrozenTrial":
    import optuna

    states = {
        TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
        TrialState.PRUNING: optuna.trial.TrialState.PRUNED,
        TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
        TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
        TrialState.FAILED: optuna.trial.TrialState.FAIL,
        TrialState.CANCELLED: optuna.trial.TrialState.FAIL,
    }
    reports = {report.epoch + 1: report.value for report in trial.reports if report.value is not None}
    excess = {name: limit.excess(trial.limited[name]) for name, limit in spec.constraints.items() if trial.limited}
    return optuna.create_trial(
        state=states[trial.state],
        params={name: _choice_of(space, trial.params[name]) for name, space in spec.search.items()},
        distributions=_distributions(spec),
        value=trial.value,
        intermediate_values=reports,
        constraints=excess or None,
    )


def _distributions(spec: SweepSpec) -> dict[str, "BaseDistribution"]:
    return {name: _distribution(space) for name, space in spec.search.items()}


def _distribution(space: SearchSpace) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, CategoricalValues):
        # Positions, because choices may be sections of the document.
        return CategoricalDistribution(range(len(space.choices)))
    if isinstance(space, IntRange):
        return IntDistribution(space.low, space.high, log=space.log, step=space.step)
    return FloatDistribution(space.low, space.high, log=space.log)


def _value_of(space: SearchSpace, suggested: Any) -> Any:
    return space.choices[suggested] if isinstance(space, CategoricalValues) else suggested


def _choice_of(space: SearchSpace, value: Any) -> Any:
    return space.position_of(value) if isinstance(space, CategoricalValues) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's notes about each study and trial out of the log of the supervisor."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
