"""The check of a sweep before anything is queued: its fields, its metric, and the documents at the corners of the
search space."""

from dataclasses import replace
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.suggestions import did_you_mean
from pipelines.data.drafting.short_document import stand_in
from pipelines.evaluation.metric_names import selection, summary_keys
from pipelines.spec.learning import SelectSpec
from pipelines.spec.load import RECIPE, validate_document
from pipelines.spec.model import ModelSpec
from pipelines.spec.sweep import FACTS, SweepSpec, validate_sweep
from pipelines.spec.sweep_documents import Values, corners, locate, shown_values, trial_document
from service.jobs.document_paths import document_problems
from service.jobs.errors import InvalidJob, JobProblem
from service.jobs.submission import JobSubmission
from service.jobs.use_cases import Jobs
from service.principal import Principal
from service.store.records import NewJob
from service.store.sweep_records import NewSweep

PINNED = ("dataset", "root", "sources")
"""Keys of `data` in which the check pins the data set of the service that a document names."""
MAX_PROBLEMS = 20


def check_sweep(principal: Principal, submission: JobSubmission, jobs: Jobs) -> NewSweep:
    """Return the sweep that a submission would start; its `config` is a sweep's document, and the rest is about trials.

    Raises:
        InvalidJob: with all problems, located in the document of the sweep.
        RegistryError: the model registry does not answer.
    """
    config, at = dict(submission.config), submission.config_at
    try:
        spec = validate_sweep(config)
        found = corners(spec)
        model = _model_of(spec, found[0])
        objective = _objective(spec, model)
        _check_facts(spec)
        _require_metrics(spec, objective.metric, model)
    except ConfigError as error:
        problems = document_problems(error.problems, config, SweepSpec)
        raise InvalidJob(problem.below(*at) for problem in problems) from error
    first, spec = _check_corners(principal, submission, spec, found, objective.metric, jobs)
    name = spec.name or first.name
    config |= {"name": name, "document": spec.document, "metric": objective.metric}
    config["direction"] = spec.direction or ("minimize" if objective.mode == "min" else "maximize")
    return NewSweep(name, config, first.priority, first.cpus, first.gpus, first.timeout_s, first.dataset_id)


def _check_corners(
    principal: Principal, submission: JobSubmission, spec: SweepSpec, found: list[Values], metric: str, jobs: Jobs
) -> tuple[NewJob, SweepSpec]:
    """Return the job of the first corner, and the sweep with its pinned data set.

    Raises:
        InvalidJob: with the problems of all corners.
    """
    problems: dict[tuple[tuple[str, ...], str], JobProblem] = {}
    first: NewJob | None = None
    for values in found:
        try:
            trial = replace(submission, config=trial_document(spec, values), config_at=())
            jobs.check_models(principal, trial)
            if first is None:
                first = jobs.check(principal, trial)
                spec = _pinned(spec, first)
            else:
                jobs.check_variant(first, trial.config)
                _require_metrics(spec, metric, _model_of(spec, values))
        except ConfigError as error:
            # These values remove or change the task of a metric.
            for missing in error.problems:
                path = tuple(missing.field.split(".", 1))
                problems.setdefault((path, ""), JobProblem(path, f"{missing.message} (with {shown_values(values)})"))
        except InvalidJob as error:
            for problem in error.problems:
                located = _located(spec, values, problem, is_first=first is None)
                problems.setdefault((located.path, problem.message), located)
        if len(problems) >= MAX_PROBLEMS or (problems and first is None):
            break
    if problems or first is None:
        at = submission.config_at
        raise InvalidJob(p if p.path[:1] == ("resources",) else p.below(*at) for p in problems.values())
    return first, spec


def _pinned(spec: SweepSpec, first: NewJob) -> SweepSpec:
    """Return the sweep with the version and the place of the data set of the service that its document names."""
    if first.dataset_id is None:
        return spec
    data: Any = spec.document["data"]
    pinned = {**data, **{key: first.config["data"][key] for key in PINNED}}
    return spec.model_copy(update={"document": {**spec.document, "data": pinned}})


def _located(spec: SweepSpec, values: Values, problem: JobProblem, *, is_first: bool) -> JobProblem:
    """Return a problem of a trial's document as one of the sweep, with the values that cause it."""
    if problem.path[:1] == ("resources",):
        return problem
    path = locate(spec, values, problem.path)
    if path[0] == "search":
        return JobProblem(path, f"{problem.message} (with {shown_values({path[1]: values[path[1]]})})")
    # The document of the first corner may be invalid whatever the values are.
    return JobProblem(path, problem.message if is_first else f"{problem.message} (with {shown_values(values)})")


def _model_of(spec: SweepSpec, values: Values) -> ModelSpec | None:
    """Return the model of a document; None if it is invalid, or if a recipe chooses it when the trial starts."""
    document = trial_document(spec, values)
    try:
        if RECIPE in document:
            stand_in(document)
            return None
        return validate_document(document).model
    except ConfigError:
        return None  # the check of the corners reports it


def _objective(spec: SweepSpec, model: ModelSpec | None) -> SelectSpec:
    """Return the metric and its direction; raises ConfigError if it is missing."""
    if model is None:
        if spec.metric is None:
            message = "is missing; name a metric such as val/TASK/AP50, because a recipe chooses model.select"
            if RECIPE in spec.document:
                raise ConfigError(FieldProblem("metric", message))
        return SelectSpec(metric=spec.metric or "")
    if spec.metric is None:
        return selection(model)
    chosen = model.select
    return chosen if chosen is not None and chosen.metric == spec.metric else SelectSpec(metric=spec.metric)


def _check_facts(spec: SweepSpec) -> None:
    for name in spec.constraints:
        if "/" not in name and name not in FACTS:
            hint = did_you_mean(name, FACTS)
            message = (
                f"unknown number{f'; {hint}' if hint else ''}; choose val/TASK/METRIC or one of {', '.join(FACTS)}"
            )
            raise ConfigError(FieldProblem(f"constraints.{name}", message))


def _require_metrics(spec: SweepSpec, metric: str, model: ModelSpec | None) -> None:
    """Raise ConfigError if no task of a model has the metric, or one that a constraint limits."""
    if model is None:
        return
    _require_metric("metric", metric, model)
    for name in spec.constraints:
        if "/" in name:
            _require_metric(f"constraints.{name}", name, model)


def _require_metric(field: str, name: str, model: ModelSpec) -> None:
    known = [key for task, kind in model.tasks.items() for key in summary_keys("val", task, kind)]
    if name not in known:
        hint = did_you_mean(name, known)
        message = f"got {name!r}{f'; {hint}' if hint else ''}; choose one of {', '.join(known)}"
        raise ConfigError(FieldProblem(field, message))
