"""The task of a job that a request about its results asks for."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query

from pipelines.base.printable import shortened
from pipelines.run_folder.layout import RunDir
from service.api.deps import JobId, JobsDep, PrincipalDep, SettingsDep
from service.rest.problems import Problem

TaskName = Annotated[str, Path(max_length=200, description="name of a task of the job")]


@dataclass(frozen=True)
class AskedTask:
    """The task of a job that a request asks for. Nothing is read before the route runs in its threads."""

    job_id: str
    task: str
    split: Literal["val", "test"] | None
    jobs: JobsDep
    principal: PrincipalDep
    settings: SettingsDep

    def scored(self) -> dict[str, Any]:
        """Return the entry of the task in result.json, with its name and split; raises Problem 404 without one."""
        job = self.jobs.find(self.principal, self.job_id)
        try:
            result = json.loads(RunDir.of(self.settings.run_dir(job.id)).result.read_bytes())
        except FileNotFoundError:
            raise Problem(404, "No results", f"job {job.id} is {job.status} and has no results") from None
        if "tasks" not in result:
            raise Problem(404, "No such results", f"job {job.id} is not a training, and has no tasks")
        shown = self.split or result["split"]
        scored = result if shown == result["split"] else result["val"] if shown == "val" else None
        if scored is None:
            raise Problem(404, "No such split", f"job {job.id} was not scored on {shown}; leave out `split`")
        if self.task not in scored["tasks"]:
            names = ", ".join(scored["tasks"])
            detail = f"job {job.id} has the tasks {names}, but not {shortened(repr(self.task))}"
            raise Problem(404, "No such task", detail)
        return {"task": self.task, "split": shown, "result": scored["tasks"][self.task]}


async def asked_task(
    job_id: JobId,
    task: TaskName,
    jobs: JobsDep,
    principal: PrincipalDep,
    settings: SettingsDep,
    split: Annotated[
        Literal["val", "test"] | None, Query(description="the split to show; by default the one that was scored last")
    ] = None,
) -> AskedTask:
    """Return the task that a request asks for."""
    return AskedTask(job_id, task, split, jobs, principal, settings)


AskedTaskDep = Annotated[AskedTask, Depends(asked_task)]
