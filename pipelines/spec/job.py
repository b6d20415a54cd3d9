"""The complete document."""

from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from pipelines.base.names import Name
from pipelines.spec.base import Spec
from pipelines.spec.data import DataSpec, PKSpec, RepeatFactorSpec, ShuffleSpec
from pipelines.spec.evaluation import EvaluationSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.training import TrackingSpec, TrainerSpec
from pipelines.spec.transfer import fill_in, min_epochs
from pipelines.tasks.kinds import kind_of


class JobSpec(Spec):
    """One run: the model, its data, the length of training, and where the run is tracked."""

    name: Name
    seed_everything: int = Field(0, ge=0, lt=2**32)
    trainer: TrainerSpec = TrainerSpec()
    model: ModelSpec
    data: DataSpec
    evaluation: EvaluationSpec = EvaluationSpec()
    tracking: TrackingSpec | None = Field(TrackingSpec(), description="MLflow run; null: the run is not tracked")

    @model_validator(mode="after")
    def _layers_name_known_tasks(self) -> "JobSpec":
        named = {task for source in self.data.sources.values() for layer in source.labels for task in layer.tasks}
        for source_name, source in self.data.sources.items():
            for position, layer in enumerate(source.labels):
                for task in layer.tasks:
                    if task not in self.model.tasks:
                        raise ValueError(
                            f"data.sources.{source_name}.labels.{position}.tasks: got {task!r}; "
                            f"model.tasks has {sorted(self.model.tasks)}"
                        )
        if unlabeled := sorted(set(self.model.tasks) - named):
            raise ValueError(f"model.tasks: no label layer lists {unlabeled}; add a layer to a source in data.sources")
        return self

    @model_validator(mode="after")
    def _samplers_name_tasks_of_their_source(self) -> "JobSpec":
        for name, source in self.data.sources.items():
            if isinstance(source.sampler, ShuffleSpec):
                continue
            named = sorted({task for layer in source.labels for task in layer.tasks})
            fitting = [task for task in named if self._can_be_drawn_by(task, source.sampler)]
            if source.sampler.task not in fitting:
                raise ValueError(
                    f"data.sources.{name}.sampler.task: got {source.sampler.task!r}; a {source.sampler.kind} "
                    f"sampler can use these tasks of the source: {fitting}"
                )
        return self

    def _can_be_drawn_by(self, task: str, sampler: PKSpec | RepeatFactorSpec) -> bool:
        return kind_of(self.model.tasks[task]).learns_identities == isinstance(sampler, PKSpec)

    @model_validator(mode="wrap")
    @classmethod
    def _transfer_fills_in(cls, document: Any, check: ModelWrapValidatorHandler["JobSpec"]) -> "JobSpec":
        job = check(document)
        max_epochs = job.trainer.max_epochs
        if job.trainer.budget is not None:
            # The number of epochs is not known yet; the run chooses one that the strategy can have.
            max_epochs = max(max_epochs, min_epochs(job.model))
        return job.model_copy(update={"model": fill_in(job.model, max_epochs)})
