"""The whole document."""

from pydantic import Field, model_validator

from pipelines.spec.base import Name, Spec
from pipelines.spec.data import DataSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.training import TrackingSpec, TrainerSpec


class JobSpec(Spec):
    """One run: what is trained, on what, for how long, and where it is tracked."""

    name: Name
    seed_everything: int = Field(0, ge=0, lt=2**32)
    trainer: TrainerSpec = TrainerSpec()
    model: ModelSpec
    data: DataSpec
    tracking: TrackingSpec | None = Field(TrackingSpec(), description="null: the run is not tracked")

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
        if unlabelled := sorted(set(self.model.tasks) - named):
            raise ValueError(f"model.tasks: no label layer names {unlabelled}; add a layer below data.sources")
        return self
