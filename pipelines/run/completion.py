"""Values that the document leaves to a measurement: chosen when a run starts, and kept in its folder."""

import time
from collections.abc import Callable
from typing import Any

from pipelines.base.clock import format_duration
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import DatasetIndex, Split
from pipelines.data.loading.corruptions import all_corruptions
from pipelines.data.loading.datamodule import JobData
from pipelines.run.batch_size import measured_batch_size
from pipelines.run.calibration import NUM_PASSES
from pipelines.run.open_fields import BUDGET_FIELDS, auto_sources, batch_size_field, completed
from pipelines.run.throwaway import Throwaway
from pipelines.run_folder.schemas import Costs, RunMeasurement, RunPrecision
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import fill_in, frozen_parts, min_epochs
from pipelines.training.run_length import RunLength, fitting_length, frozen_name, run_seconds
from pipelines.training.step_times import StepTimes
from pipelines.training.trainer import num_processes

PLANNED_SHARE = 0.95
"""The part of the budget that the first plan fills; the rest is for what the measurement has missed."""

FINAL_S = 5.0
"""Seconds for tables, plots, pictures and the exported model."""


class Completion:
    """Measures a job on this machine, and chooses what its document leaves open.

    Args:
        job: the document.
        document: the document as the user wrote it.
        index: its data.
        precision: of the run.
        clock: in seconds, for the measurements.
    """

    def __init__(
        self,
        job: JobSpec,
        document: Document,
        index: DatasetIndex,
        precision: RunPrecision,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job = job
        self.index = index
        self.precision = precision
        self.clock = clock
        self._model = ModelSpec.model_validate(document["model"])
        self.messages: list[str] = []

    def measure(self, used_s: Callable[[], float]) -> RunMeasurement:
        """Return the chosen values; `messages` then explain them.

        Args:
            used_s: returns the seconds of the budget that are used.

        Raises:
            ConfigError: the budget is too short.
        """
        fields: dict[str, Any] = {}
        costs = None
        if sources := auto_sources(self.job):
            size, message = measured_batch_size(self.job, self.index, self.precision, self.clock)
            self.messages.append(message)
            fields |= {batch_size_field(name): size for name in sources}
            self.job = completed(self.job, fields)
        if self.job.trainer.budget is not None:
            costs = self.costs()
            fields |= self._fields_of(self._length(costs, used_s()))
            self.job = completed(self.job, fields)
        return RunMeasurement(fields=fields, costs=costs)

    def costs(self) -> Costs:
        """Return the measured times of the job's parts."""
        throwaway = Throwaway(self.job, self.index, self.precision, self.clock)
        model = self._model_of(max(min_epochs(self._model), 10))
        assert model.unfreeze is not None
        steps = StepTimes([frozen_parts(model, epoch) for epoch in model.unfreeze], clock=self.clock)
        throwaway.train([steps])
        image_s = throwaway.seconds_per_image() / num_processes(self.job.trainer)
        return Costs(
            step_s={frozen_name(frozen): seconds for frozen, seconds in steps.seconds.items()},
            validation_s=image_s * self._num_evaluated("val"),
            final_s=image_s * self._num_evaluated_at_end() + FINAL_S,
        )

    def _num_evaluated(self, split: Split) -> int:
        splits: list[Split] = [split, "train"] if self.job.model.gallery_tasks else [split]
        return sum(len(self.index.records.get(name, [])) for name in splits)

    def _num_evaluated_at_end(self) -> int:
        """Return the number of images in all passes after training."""
        evaluation, split = self.job.evaluation, self.index.final_split
        number = self._num_evaluated(split)
        if evaluation.calibrate == "temperature":
            number += NUM_PASSES * self._num_evaluated("val")
        if evaluation.corruptions:
            number += len(all_corruptions()) * len(self.index.records[split])
        return number

    def last_frozen_name(self) -> str:
        """Return the name in `Costs.step_s` of the parts that are frozen in the last epoch."""
        assert self.job.model.unfreeze is not None
        return frozen_name(frozen_parts(self.job.model, max(self.job.model.unfreeze)))

    def _model_of(self, num_epochs: int) -> ModelSpec:
        return fill_in(self._model, num_epochs)

    def num_batches(self) -> int:
        """Return the batches of an epoch on each rank."""
        data = JobData(self.job.data, self.job.model.tasks, self.index, self.job.seed_everything)
        number = len(data.train_sampler(num_processes(self.job.trainer)))
        limit = self.job.trainer.limit_train_batches
        return number if limit is None else min(limit, number)

    def _length(self, costs: Costs, used_s: float) -> RunLength:
        spec = self.job.trainer
        assert spec.budget_s is not None
        num_batches = self.num_batches()
        length = fitting_length(
            self._model_of,
            costs,
            PLANNED_SHARE * spec.budget_s - used_s,
            num_batches=num_batches,
            accumulated=spec.accumulate_grad_batches,
            check_every=spec.check_val_every_n_epoch,
            min_epochs=min_epochs(self._model),
        )
        if length is None:
            shortest = RunLength(min_epochs(self._model), spec.accumulate_grad_batches, spec.check_val_every_n_epoch)
            least_s = used_s + run_seconds(self._model_of(shortest.num_epochs), costs, shortest)
            raise ConfigError(
                FieldProblem(
                    "trainer.budget",
                    f"got {spec.budget!r}, but on this machine the start took {used_s:.0f} s, a validation takes about "
                    f"{costs.validation_s:.0f} s, and the final evaluation {costs.final_s:.0f} s; write at least "
                    f"{1.5 * least_s:.0f}s, or evaluate fewer images",
                )
            )
        slowest = max(costs.step_s.values())
        share = "" if length.num_batches == num_batches else f" of {num_batches}"
        self.messages.append(
            f"budget {spec.budget} ({format_duration(used_s)} used): {length.num_epochs} epochs with "
            f"{length.num_batches}{share} batches, at {slowest:.3f} s per batch, {costs.validation_s:.1f} s per "
            f"validation and {costs.final_s:.1f} s at the end; the length is corrected after each epoch"
        )
        return length

    def _fields_of(self, length: RunLength) -> dict[str, Any]:
        spec, schedule = self.job.trainer, self.job.model.schedule
        num_steps = length.num_epochs * -(-length.num_batches // spec.accumulate_grad_batches)
        warmup = min(schedule.warmup_steps, num_steps // 10)
        if warmup < schedule.warmup_steps:
            self.messages.append(
                f"model.schedule.warmup_steps: {warmup} instead of {schedule.warmup_steps}, a tenth of the run"
            )
        is_whole = length.num_batches == self.num_batches()
        unfreeze = resolved_unfreeze(self._model_of(length.num_epochs))
        limit = spec.limit_train_batches if is_whole else length.num_batches
        return dict(zip(BUDGET_FIELDS, (length.num_epochs, limit, unfreeze, warmup), strict=True))


def resolved_unfreeze(model: ModelSpec) -> dict[str, Any]:
    """Return `unfreeze` as JSON, where keys are texts."""
    unfreeze = model.model_dump(mode="json")["unfreeze"]
    return {str(epoch): stages for epoch, stages in unfreeze.items()}
