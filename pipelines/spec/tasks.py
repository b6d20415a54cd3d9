"""`model.tasks`: one section for each task, of any registered kind."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias, Union

from pydantic import Field

from pipelines.tasks.base import TaskSpec
from pipelines.tasks.kinds import TASK_SPECS, kind_of

if TYPE_CHECKING:
    Task: TypeAlias = TaskSpec
else:
    Task = Annotated[Union[tuple(TASK_SPECS.values())], Field(discriminator="head")]  # noqa: UP007


def gallery_tasks(tasks: Mapping[str, Task]) -> list[str]:
    """Return the tasks that search the training split when they are scored, sorted."""
    return sorted(name for name, spec in tasks.items() if kind_of(spec).searches_training_split(spec))
