"""`lr-find`: a learning rate for a job, from a range test of a network that is thrown away."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.base.charts import new_figure
from pipelines.base.errors import ConfigError, FieldProblem, NumericsError
from pipelines.base.records import DatasetIndex
from pipelines.evaluation.chart_files import write_picture
from pipelines.model import MultiTaskModel
from pipelines.preflight import Inputs
from pipelines.run.batch_size import measured_batch_size
from pipelines.run.init_source import pin_version, provided_source
from pipelines.run.network import initialized_network
from pipelines.run.open_fields import auto_sources, batch_size_field, completed
from pipelines.run.run_precision import new_precision
from pipelines.run.throwaway import Throwaway
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.training.rate_range import RangePoint, RateRange, suggested_rate

FIELD = "model.optimizer.lr"


@dataclass(frozen=True)
class FoundRate:
    """The result of a range test.

    Attributes:
        suggested: None if the loss does not fall.
        current: the rate of the document.
        points: the steps of the test.
    """

    suggested: float | None
    current: float
    points: tuple[RangePoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {"field": FIELD, **asdict(self)}

    def __str__(self) -> str:
        tested = f"{len(self.points)} steps, from {self.points[0].rate:.1e} to {self.points[-1].rate:.1e}"
        if self.suggested is None:
            return f"{FIELD}: no suggestion, because the loss does not fall at any rate ({tested})"
        return f"{FIELD}: {self.suggested:.1e} is suggested; the document has {self.current:.1e} ({tested})"


def find_rate(
    job: JobSpec, inputs: Inputs, index: DatasetIndex, num_steps: int, warn: Callable[[str], None]
) -> FoundRate:
    """Return the result of a range test; nothing of the job is changed or written.

    All parts that train in the last epoch are trained, from the weights that the run would start from.

    Raises:
        ConfigError, RegistryError: the run could not start from these weights.
    """
    inputs, precision = pin_version(inputs), new_precision(job.trainer)
    if sources := auto_sources(job):
        size, _ = measured_batch_size(job, index, precision)
        job = completed(job, {batch_size_field(name): size for name in sources})
    test = RateRange(num_steps=num_steps)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir.of(Path(folder))
        with provided_source(inputs, run_dir):

            def network() -> MultiTaskModel:
                return initialized_network(job, index, inputs, run_dir, warn)

            throwaway = Throwaway(job, index, precision, network=network)
            try:
                throwaway.train([test], rate=1.0, frozen_as_in_last_epoch=True)
            except NumericsError:
                # The rate is so high that the loss is not finite anymore, which ends the test, too.
                if not test.points:
                    raise
    return FoundRate(suggested_rate(test.points), job.model.optimizer.lr, tuple(test.points))


def draw_range(found: FoundRate, path: Path) -> None:
    """Write a picture of the losses over the rates, with the suggestion."""
    figure, (axis,) = new_figure(1)
    rates = [point.rate for point in found.points]
    axis.plot(rates, [point.loss for point in found.points], alpha=0.3, label="loss of a step")
    axis.plot(rates, [point.mean_loss for point in found.points], label="running mean")
    if found.suggested is not None:
        axis.axvline(found.suggested, linestyle="--", color="tab:green", label=f"suggested: {found.suggested:.1e}")
    axis.axvline(found.current, linestyle=":", color="tab:gray", label=f"document: {found.current:.1e}")
    losses = [point.mean_loss for point in found.points]
    axis.set_ylim(min(losses) - 0.1 * abs(min(losses)), 1.5 * losses[0])
    axis.set(xscale="log", xlabel="learning rate of the heads", ylabel="training loss")
    axis.legend()
    try:
        write_picture(figure, path)
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}); name another file"
        raise ConfigError(FieldProblem("--out", message)) from error
