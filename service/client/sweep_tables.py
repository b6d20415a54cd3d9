"""Tables and pages about sweeps for the terminal."""

import json
from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pipelines.base.clock import format_duration, format_moment
from service.client.facts import facts_table
from service.rest.sweep_schemas import SweepSummary, SweepView, TrialView


def sweeps_table(sweeps: Iterable[SweepSummary]) -> Table:
    """Return a table with a row for each sweep."""
    table = Table("id", "name", "status", "created", "message", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for sweep in sweeps:
        cells = (sweep.id, sweep.name, status_text(sweep), format_moment(sweep.created_at), sweep.message or "")
        table.add_row(*map(escape, cells))
    return table


def sweep_page(sweep: SweepView) -> Group:
    """Return a page with a sweep, its trials and the best of them."""
    best = sweep.best
    facts = {
        "id": sweep.id,
        "name": sweep.name,
        "status": status_text(sweep),
        "message": sweep.message,
        "metric": f"{sweep.direction} {sweep.metric}",
        "trials": f"{len(sweep.trials)} of {sweep.num_trials}",
        "best": None if best is None else f"trial {best.number}, {sweep.metric} = {best.value:.4f}",
        "created": format_moment(sweep.created_at),
        "finished": None if sweep.finished_at is None else format_moment(sweep.finished_at),
        "MLflow run": sweep.mlflow_run_id,
    }
    parts: list[RenderableType] = [facts_table(facts)]
    if sweep.trials:
        parts.append(_trials_table(sweep))
    return Group(*parts)


def status_text(sweep: SweepSummary) -> str:
    """Return the status, with a cancel request that is being carried out."""
    return str(sweep.status) + (", cancel requested" if sweep.cancel_requested and sweep.finished_at is None else "")


def trial_line(sweep: SweepView, trial: TrialView) -> str:
    """Return the state of a trial in one line."""
    values = ", ".join(f"{name}={short_value(value)}" for name, value in trial.params.items())
    if trial.value is not None:
        outside = "" if trial.is_feasible else ", beyond a constraint"
        return f"trial {trial.number} {trial.state}: {sweep.metric} = {trial.value:.4f}{outside} ({values})"
    return f"trial {trial.number} {trial.state}: {trial.message or values}"


def short_value(value: Any) -> str:
    """Return the value of a searched field in a few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _trials_table(sweep: SweepView) -> Table:
    names = sorted({name for trial in sweep.trials for name in trial.params})
    table = Table("trial", "job", "state", sweep.metric, "epochs", *names, "took", "message", box=SIMPLE_HEAD)
    for trial in sweep.trials:
        is_best = sweep.best is not None and trial.number == sweep.best.number
        value = "" if trial.value is None else f"{trial.value:.4f}{' *' if is_best else ''}"
        epochs = str(trial.reports[-1].epoch + 1) if trial.reports else ""
        took = "" if trial.ended_at is None else format_duration((trial.ended_at - trial.created_at).total_seconds())
        values = [short_value(trial.params.get(name)) for name in names]
        note = trial.message or ("beyond a constraint" if trial.is_feasible is False else "")
        cells = (str(trial.number), trial.job_id or "", str(trial.state), value, epochs, *values, took, note)
        table.add_row(*map(escape, cells))
    return table
