"""The settings of run folders that reach the service through object storage. Torch-free."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.settings_variables import SettingsOfVariables


class RunStorageSettings(SettingsOfVariables):
    """The storage and the folder of attempts that share no disk with the service."""

    run_storage: str | None = Field(
        None,
        description="storage through which run folders travel from nodes that share no disk with the service, "
        "s3://BUCKET/PREFIX; by default attempts work in the run folders below the root",
    )
    run_scratch: Path | None = Field(
        None,
        description="with `run_storage`, the folder on the disk of each node in which attempts work; the default is "
        "`.scratch` in the root",
    )
    run_push_timeout_s: Annotated[float, Field(gt=0, le=1e8)] = Field(
        600.0,
        description="with `run_storage`, seconds that the end of an attempt waits until its files are stored; then the "
        "attempt fails, and its files stay on the node",
    )
