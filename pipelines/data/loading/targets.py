"""Labels of a record as targets of all tasks."""

from collections.abc import Mapping, Sequence

from heads.base import Target
from pipelines.base.records import Category, ImageRecord
from pipelines.tasks.base import TaskSetup, TaskSpec
from pipelines.tasks.tensors.runtime import runtime_of


class TargetEncoder:
    """Encodes the labels of all tasks; targets hold positions in the task's list of categories.

    Args:
        tasks: the model's tasks by name.
        categories: by task, the classes (of a task that learns identities, those of the training data).
    """

    def __init__(self, tasks: Mapping[str, TaskSpec], categories: Mapping[str, Sequence[Category]]) -> None:
        self.setups = {name: TaskSetup(name, spec, categories.get(name, ())) for name, spec in sorted(tasks.items())}

    def encode(self, record: ImageRecord) -> dict[str, Target]:
        """Return the targets of the tasks that the record is labeled for, see `TaskRuntime.encode`.

        Raises:
            DataError: the task does not have a class, or needs exactly one class and the image has none or several.
        """
        return {
            name: runtime_of(setup.spec).encode(setup, record)
            for name, setup in self.setups.items()
            if name in record.labels
        }
