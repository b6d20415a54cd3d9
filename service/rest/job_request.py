"""The request that submits a job. Torch-free."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from pipelines.spec.training import Duration
from service.jobs.kinds.registry import JobKindName
from service.resources import CPUS, GPUS
from service.rest.schemas import Request


class ResourcesRequest(Request):
    """Resources that a job requests; a missing value is the server's default."""

    cpus: Annotated[int, Field(ge=1)] | None = Field(
        None, description="CPU cores, and threads of the trainer, of each node"
    )
    gpus: Annotated[int, Field(ge=0)] | None = Field(None, description="number of GPUs of each node")
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(
        None, description="maximum seconds from the start of the first attempt to the end of the job"
    )

    def counts(self) -> dict[str, int]:
        """Return the counts that are requested for each node, by resource."""
        counts = {CPUS: self.cpus, GPUS: self.gpus}
        return {name: count for name, count in counts.items() if count is not None}


class JobResourcesRequest(ResourcesRequest):
    """Resources of a job that is submitted by its document."""

    gpu_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = Field(
        None, description="type of the GPUs, one of `gpu_types` of GET /v1/capabilities; null: any"
    )


class JobRequest(Request):
    """A job to submit: a document, or data and a budget for which a recipe chooses all settings."""

    recipe: Literal["finetune"] | None = Field(
        None, description="instead of `config`; docs/finetuning.md has its rules"
    )
    data: dict[str, JsonValue] = Field({}, description="section `data` for a recipe: `root` or `dataset`")
    budget: Duration | None = Field(None, description="wall time of the run for a recipe, such as 8m")
    config: dict[str, JsonValue] = Field(
        {},
        validate_default=True,
        description="the job document; GET /v1/catalog/schema returns its schema",
    )
    kind: JobKindName = Field("fit", description="what the job does; each kind has its own document")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="jobs with a higher priority start earlier")
    resources: JobResourcesRequest = Field(JobResourcesRequest(), description="resources of the job")

    @field_validator("config")
    @classmethod
    def _a_recipe_replaces_the_document(cls, config: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        given = [name for name in ("recipe", "data", "budget") if info.data.get(name)]
        if config and given:
            raise ValueError(f"got a document beside {given[0]}; write only one of them")
        if not config and info.data.get("recipe", "invalid") is None:
            raise ValueError("is missing; write a job document, or `recipe`, `data` and `budget` instead")
        return config

    @property
    def document(self) -> dict[str, Any]:
        """The document, which is a short one for a recipe."""
        if self.recipe is None:
            return self.config
        short = {"recipe": self.recipe, "data": self.data}
        return short if self.budget is None else {**short, "budget": self.budget}

    @property
    def document_at(self) -> tuple[str, ...]:
        """The path of the document in the request."""
        return ("config",) if self.recipe is None else ()
