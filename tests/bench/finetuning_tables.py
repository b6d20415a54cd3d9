"""The tables of the fine-tuning benchmark, from its rows alone."""

from collections.abc import Iterator

from tests.bench.finetuning_trials import STRATEGIES, TASKS, chosen, grid, has_grid
from tests.bench.finished_runs import Row, find_row
from tests.bench.runs import Figures, markdown, turned_table


def render(rows: list[Row]) -> list[str]:
    """Return the parts of the report; a strategy without a complete grid has no chosen rate, and no scores on test."""
    return [_conditions(rows), *(part for task in TASKS for part in (_grid_table(task, rows), _table(task, rows)))]


def _conditions(rows: list[Row]) -> str:
    machines = " and ".join(sorted({row["machine"] for row in rows}))
    days = sorted({row["date"] for row in rows})
    minutes = sum(row["cpu_s"] for row in rows) / 60
    return f"{machines}; {', '.join(days)}; {len(rows)} runs, {minutes:.0f} CPU-minutes.\n"


def _grid_table(task: str, rows: list[Row]) -> str:
    """Return the scores on val by strategy and learning rate, with the chosen ones in bold."""
    cells = {strategy: list(_grid_cells(task, strategy, rows)) for strategy in STRATEGIES}
    title = f"{task.capitalize()}: {TASKS[task].figure} on val by learning rate"
    return markdown(title, [f"{rate:g}" for rate in TASKS[task].rates], cells)


def _grid_cells(task: str, strategy: str, rows: list[Row]) -> Iterator[str]:
    best = chosen(task, strategy, rows) if has_grid(task, strategy, rows) else None
    for trial in sorted(grid(task), key=lambda trial: trial.lr):
        if trial.strategy == strategy:
            row = find_row(rows, trial.identity)
            score = f"{row['val'][TASKS[task].figure]:.3f}" if row else ""
            yield f"**{score}**" if trial == best else score


def _table(task: str, rows: list[Row]) -> str:
    """Return the scores on test with the chosen learning rates."""
    found: dict[str, list[Figures]] = {}
    for strategy in STRATEGIES:
        if has_grid(task, strategy, rows):
            lr = chosen(task, strategy, rows).lr
            own = [row for row in rows if (row["task"], row["strategy"], row["lr"]) == (task, strategy, lr)]
            own = [row for row in own if row["steps"] == TASKS[task].steps]
            found[f"{strategy}, {lr:g}"] = [_figures(row) for row in sorted(own, key=lambda row: str(row["share"]))]
    return turned_table(f"{task.capitalize()}: test, with the chosen learning rate", found)


def _figures(row: Row) -> Figures:
    if row["share"] != "100 %":
        return {f"{row['share']}: {name}": score for name, score in row["test"].items()}
    return {**row["test"], "CPU (s)": row["cpu_s"], "wall (s)": row["wall_s"], "peak memory (MiB)": row["peak_mib"]}
