"""Display the progress of a job: a progress bar on a terminal, otherwise one line per epoch."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

from pipelines.base.clock import format_duration
from service.client.client import FOLLOW_RETRY_S, Client
from service.rest.schemas import EventView, JobView

SHOWN_METRICS = {"AP", "AP50", "accuracy", "mAP", "macro_f1", "recall_at_1"}
"""Metrics to show after each validation; `pyramidion results` prints all metrics."""


def follow(client: Client, job_id: str, console: Console) -> JobView:
    """Show the events of a job until it has ended, and return the ended job."""
    with ProgressDisplay(console) as screen:
        screen.start(client.job(job_id))
        for event in client.events(job_id):
            screen.show(event)
    return client.job(job_id, patience_s=FOLLOW_RETRY_S)


class ProgressDisplay:
    """Display of the events of one job."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            TextColumn(
                "{task.fields[facts]}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
                markup=False,
            ),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("waiting", total=None, facts="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._bar.stop()

    def start(self, job: JobView) -> None:
        """Show the status, and the reason why the job waits."""
        self._bar.update(self._task, description=str(job.status))
        if job.waits_for:
            self._print(f"{job.status}: {job.waits_for}")

    def show(self, event: EventView) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "status" and data["from"] is None:
            return  # `start` has shown the first status
        if event.kind == "status":
            self._print(_status_line(event))
            self._bar.update(self._task, description=str(data["to"]))
        elif event.kind == "stage":
            name = str(data["stage"]).replace("_", " ")
            self._print(str(data.get("message", name)))
            self._bar.update(self._task, description=name, total=None, facts="")
        elif event.kind == "warning":
            self._print(f"warning: {data['message']}")
        elif event.kind == "metric":
            if line := _metric_line(event):
                self._print(line)
        else:
            self._show_progress(event)

    def _show_progress(self, event: EventView) -> None:
        if "total" in event.data:
            self._show_work(event)
            return
        batch, batches, epochs = (int(event.data.get(key) or 0) for key in ("batch", "batches", "max_epochs"))
        facts = [
            f"{event.data['images_per_s']:.1f} images/s",
            f"{format_duration(event.data['left_s'])} left",
            *_losses(event.data.get("losses", {})),
        ]
        description = f"epoch {event.epoch + 1}/{epochs}"
        done = event.epoch * batches + batch
        self._bar.update(
            self._task, description=description, completed=done, total=epochs * batches, facts="  ".join(facts)
        )
        if not self._console.is_terminal and batch == batches:
            self._print("  ".join([description, *facts]))

    def _show_work(self, event: EventView) -> None:
        """Show work that is counted, such as images."""
        done, total, unit = int(event.data["done"]), int(event.data["total"]), event.data["unit"]
        facts = [f"{event.data['per_s']:.1f} {unit}/s"]
        if event.data.get("left_s") is not None:
            facts.append(f"{format_duration(event.data['left_s'])} left")
        description = f"{done}/{total} {unit}"
        self._bar.update(self._task, description=description, completed=done, total=total, facts="  ".join(facts))
        if not self._console.is_terminal and done == total:
            self._print("  ".join([description, *facts]))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _losses(losses: Mapping[str, float]) -> list[str]:
    return [f"{name.removeprefix('train/')} {value:.3f}" for name, value in losses.items()]


def _status_line(event: EventView) -> str:
    status, message = event.data["to"], event.data.get("message")
    attempt = f", attempt {event.attempt}" if event.attempt > 1 and status == "starting" else ""
    return f"{status}{attempt}" + (f": {message}" if message else "")


def _metric_line(event: EventView) -> str:
    """Return a line with metrics of a validation; empty for other metrics, such as those of gradients."""
    shown = [
        f"{name} {value:.3f}"
        for name, value in event.data.items()
        if name.rpartition("/")[2] in SHOWN_METRICS and value is not None
    ]
    are_gradients = all(name.startswith("gradients/") for name in event.data)
    return "" if are_gradients else f"epoch {event.epoch + 1}: {'  '.join(shown)}"
