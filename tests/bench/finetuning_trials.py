"""The runs of the fine-tuning benchmark: their settings, their order, and the choice of the learning rates."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from tests.bench.finished_runs import Row, find_row
from tests.bench.runs import Run

STRATEGIES = ("freeze", "full", "discriminative", "gradual", "lp-ft", "scratch")
"""The last is the least informative, so that a benchmark that is stopped early lacks its runs."""
EPOCHS = 10
"""Epochs contain only some batches, so that `gradual` and `lp-ft` can unfreeze after every tenth of a run."""


@dataclass(frozen=True)
class Task:
    """Settings of the runs of one task.

    Attributes:
        steps: optimizer steps of a run.
        figure: the score on val by which the learning rate is chosen.
        rates: the grid of learning rates.
        options: of `pyramidion fit`, equal in all runs.
    """

    steps: int
    figure: str
    rates: tuple[float, ...]
    options: tuple[str, ...]


SUBTYPE_LABELS = (
    '{format: csv, path: annotations/image_labels.csv, split_column: split, column: wbc_types, separator: " ", '
    "tasks: [subtype]}"
)
TASKS = {
    "detection": Task(50, "AP", (1e-3, 2e-3), ("--config=recipe:bccd",)),
    "classification": Task(
        100,
        "mAP",
        (1e-3, 3e-3),
        (
            "--config=recipe:bccd_multitask",
            "--model.tasks={subtype: {head: multilabel, level: c5, class_weights: balanced}}",
            "--model.select.metric=val/subtype/mAP",
            f"--data.sources={{bccd: {{images: JPEGImages, labels: [{SUBTYPE_LABELS}], batch_size: 4}}}}",
            "--data.image_size=160",
        ),
    ),
}


@dataclass(frozen=True)
class Trial:
    """What identifies a run and its row."""

    task: str
    strategy: str
    share: str
    seed: int
    lr: float

    @property
    def identity(self) -> Row:
        """The fields of the row that identify the run."""
        return {**asdict(self), "steps": TASKS[self.task].steps}

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"{self.task}-{self.strategy}-{self.share.split()[0]}-{self.seed}-{self.lr:g}"


def training(trial: Trial, data: Path) -> Run:
    """Return the training of a trial on the images in a folder."""
    task = TASKS[trial.task]
    scratch = trial.strategy == "scratch"
    return Run(
        trial.name,
        (
            *task.options,
            "--model.backbone.name=tf_efficientnet_lite0",
            f"--model.backbone.weights={'none' if scratch else 'default'}",
            f"--model.transfer={'full' if scratch else trial.strategy}",
            f"--model.optimizer.lr={trial.lr:g}",
            f"--model.schedule.warmup_steps={task.steps // 10}",
            f"--data.root={data}",
            f"--seed_everything={trial.seed}",
            f"--trainer.max_epochs={EPOCHS}",
            f"--trainer.limit_train_batches={task.steps // EPOCHS}",
            f"--trainer.check_val_every_n_epoch={EPOCHS}",
            "--tracking=null",
        ),
    )


def grid(task: str) -> Iterator[Trial]:
    """Yield the runs by which the learning rates are chosen."""
    for lr in TASKS[task].rates:
        yield from (Trial(task, strategy, "100 %", 0, lr) for strategy in STRATEGIES)


def has_grid(task: str, strategy: str, rows: list[Row]) -> bool:
    """Return whether all runs by which the learning rate of a strategy is chosen have a row."""
    return all(find_row(rows, trial.identity) for trial in grid(task) if trial.strategy == strategy)


def chosen(task: str, strategy: str, rows: list[Row]) -> Trial:
    """Return the run of the grid with the best figure on val, whose scores on test are not regarded.

    Raises:
        ValueError: a run of the grid has no row.
    """
    if not has_grid(task, strategy, rows):
        raise ValueError(f"runs of {strategy} for {task} have no row, so its learning rate cannot be chosen; run them")
    scores = {
        trial: row["val"][TASKS[task].figure]
        for trial in grid(task)
        if trial.strategy == strategy and (row := find_row(rows, trial.identity))
    }
    return max(scores, key=lambda trial: float(scores[trial]))


def stages(tasks: list[str]) -> Iterator[Callable[[list[Row]], list[Trial]]]:
    """Yield functions from the rows so far to the next runs, the most informative first."""
    for task in tasks:
        yield lambda _, task=task: list(grid(task))
        if task == "detection":
            yield partial(_with_chosen_rates, conditions=[("25 %", 0)], strategies=STRATEGIES[:-1])
    if "detection" in tasks:
        for seed in (1, 2):
            yield partial(_with_chosen_rates, conditions=[("100 %", seed)], strategies=STRATEGIES[:-1])
        rest = [("25 %", 0), ("100 %", 1), ("100 %", 2)]
        yield partial(_with_chosen_rates, conditions=rest, strategies=STRATEGIES[-1:])


def _with_chosen_rates(rows: list[Row], conditions: list[tuple[str, int]], strategies: tuple[str, ...]) -> list[Trial]:
    """Return the runs of strategies on each share of the images with each seed."""
    return [
        replace(chosen("detection", name, rows), share=share, seed=seed)
        for share, seed in conditions
        for name in strategies
    ]
