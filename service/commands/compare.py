"""`pyramidion compare`: runs side by side, with intervals of their differences."""

from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError
from pipelines.evaluation.comparison import DEFAULT_SAMPLES, SEED, compare_runs, open_run, to_json
from pipelines.evaluation.comparison_tables import comparison_tables


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Compare only this task.  Repeatable.")
@click.option(
    "--samples",
    type=click.IntRange(1, 100_000),
    default=DEFAULT_SAMPLES,
    show_default=True,
    help="Number of samples of the images, drawn with replacement.",
)
@click.option("--seed", type=click.IntRange(min=0), default=SEED, show_default=True, help="Seed of the samples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, also for problems.")
def compare(runs: Sequence[str], *, tasks: Sequence[str], samples: int, seed: int, as_json: bool) -> int:
    """Compare the numbers of runs that were scored on the same images with those of the first RUN.

    A RUN is a run folder, or a folder of `validate` or `test` below its eval/. A difference is real if its interval
    does not contain zero: it would have the same sign on most other samples of such images.
    """
    if len(runs) < 2:
        raise click.UsageError("got one RUN; name two or more")
    try:
        compared = compare_runs([open_run(run, Path(run)) for run in runs], tasks, num_samples=samples, seed=seed)
    except ConfigError as error:
        if as_json:
            print(error.to_json())
        raise
    if as_json:
        print(to_json(compared))
        return 0
    console = terminal_console()
    for table in comparison_tables(compared):
        console.print(table)
    return 0
