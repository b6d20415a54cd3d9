"""What `pyramidion serve` is told: by its options, or by `PYRAMIDION_*` variables. Torch-free.

The processes of one service read one `Settings`: the first hands it to the others by their environment.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipelines.tracking.mlflow_store import sqlite_url

PREFIX = "PYRAMIDION_"

Folders = Annotated[tuple[Path, ...], NoDecode]
Seconds = Annotated[float, Field(gt=0, le=1e8)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """One service: where it lies, what it may use, and its limits. Each field is `PYRAMIDION_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    root: Path = Field(Path("runs/service"), description="folder of jobs, database, MLflow store")
    port: int = Field(8000, ge=0, le=65535, description="of the loopback; 0: any that is free")
    data_roots: Folders = Field((Path(),), description="where data sets may lie")
    weights_roots: Folders = Field((Path(),), description="where weights may lie")
    database_url: str | None = Field(None, description="of SQLAlchemy; default: service.db below root")

    executor: str = Field("local", description="name of the executor that runs attempts")
    cpus: Count = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)), description="cores that jobs may use in all"
    )
    gpus: int | None = Field(None, ge=0, description="GPUs that jobs may use in all; default: those that are there")
    max_attempts: Count = Field(3, description="after so many attempts that failed, a job has failed")
    retry_delay_s: Seconds = Field(5.0, description="before the second attempt; doubled for each further one")
    cancel_grace_s: Seconds = Field(8.0, description="what a cancelled attempt has to end by itself")
    poll_s: Seconds = Field(0.2, description="how often the supervisor looks")

    max_json_bytes: Count = 1 << 20
    max_image_bytes: Count = 20 << 20
    max_image_pixels: Count = 50_000_000
    dry_run_timeout_s: Seconds = 120.0
    predict_timeout_s: Seconds = 60.0
    predict_batch_size: Count = 8
    predict_queue_size: Count = Field(64, description="predictions under way at once; more are refused for now")
    predict_models: Count = Field(4, description="models that the predictor keeps in memory")
    alias_check_s: Seconds = Field(2.0, description="how often the predictor looks whether an alias has moved")

    @field_validator("data_roots", "weights_roots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(Path(part) for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("root", "data_roots", "weights_roots")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        return value.resolve() if isinstance(value, Path) else tuple(path.resolve() for path in value)

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process the same settings."""
        fields = self.model_dump(exclude_none=True)
        return {PREFIX + name.upper(): _as_text(value) for name, value in fields.items()}

    @cached_property
    def url_of_database(self) -> str:
        return self.database_url or sqlite_url(self.root / "service.db")

    @property
    def jobs_dir(self) -> Path:
        return self.root / "jobs"

    def run_dir(self, job_id: str) -> Path:
        """Return the run folder of a job."""
        return self.jobs_dir / job_id


def _as_text(value: Any) -> str:
    return os.pathsep.join(map(str, value)) if isinstance(value, tuple) else str(value)
