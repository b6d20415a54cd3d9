"""The contract of a kind of jobs: everything that depends on what its attempts do. Torch-free.

Queue, supervisor, views and client know no kind: they look a job's kind up in `service.jobs.kinds.registry`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from pipelines.run_folder.layout import RunDir
from pipelines.spec.training import TrackingSpec
from service.datasets.usable import UsableDataset
from service.resources import CPUS, GPUS, NODES, ResourceCounts, available
from service.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class CheckedDocument:
    """A valid document.

    Attributes:
        name: the name of the job.
        config: the document to store, in which names that may change their meaning are pinned.
        num_nodes: number of nodes on which the job runs.
    """

    name: str
    config: dict[str, Any]
    num_nodes: int = 1


class JobKind(ABC):
    """One kind of jobs.

    Attributes:
        name: the kind in the database and in REST.
        document: schema of the document.
        result: schema of result.json.
        dataset_field: path of the field of the document that names a data set.
        has_dry_run: whether `?dry_run=true` can report what a job would do.
        asks_registry: whether the check asks the model registry, which may not answer for a long time.
    """

    name: ClassVar[str]
    document: ClassVar[type[BaseModel]]
    result: ClassVar[type[BaseModel]]
    dataset_field: ClassVar[tuple[str, ...]] = ("data", "dataset")
    has_dry_run: ClassVar[bool] = False
    asks_registry: ClassVar[bool] = False

    @abstractmethod
    def check(
        self, config: Mapping[str, Any], settings: Settings, capacity: ResourceCounts, *, has_files: bool = True
    ) -> CheckedDocument:
        """Return the document of a submission if it can run on this server.

        Args:
            config: the document.
            settings: of the server.
            capacity: the resources of the server.
            has_files: False while the files that were uploaded with the job are not extracted yet.

        Raises:
            InvalidJob: with all problems; their paths start at the document.
            RegistryError: the model registry does not answer.
        """

    def dataset(self, config: Mapping[str, Any]) -> str | None:
        """Return the data set of the service that a document names, which may be invalid; None if it names none."""
        return None

    def with_dataset(self, config: Mapping[str, Any], dataset: UsableDataset) -> dict[str, Any]:
        """Return the document with the pinned version of its data set, and the place of its files.

        Raises:
            InvalidJob: the document contradicts the data set.
        """
        return dict(config)

    @abstractmethod
    def command(self, run_dir: RunDir) -> tuple[str, ...]:
        """Return the command line of an attempt.

        The command resumes what earlier attempts in the same folder have done. It exits with the codes of
        `pipelines.base.errors.ExitCode`, and writes result.json before it exits with code 0.
        """

    def default_resources(self, capacity: ResourceCounts) -> dict[str, int]:
        """Return the resources, on each node, of a job that requests none: one GPU if the server has any, with its
        share of the cores; on a server without GPUs, the cores of one node."""
        gpus = capacity.get(GPUS, 0)
        return {CPUS: max(1, capacity[CPUS] // max(gpus, available(capacity, NODES))), GPUS: min(1, gpus)}

    def has_result(self, run_dir: RunDir) -> bool:
        """Return whether the run folder has the result of a complete job."""
        try:
            return isinstance(json.loads(run_dir.result.read_text("utf-8")), dict)
        except (OSError, ValueError):
            return False

    @abstractmethod
    def show_result(self, result: Mapping[str, Any], console: "Console") -> None:
        """Print result.json for people."""

    def models(self, config: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
        """Return the registered models that a document names, keyed by the path of the name; it may be invalid."""
        return {}

    def tracking(self, config: Mapping[str, Any]) -> TrackingSpec | None:
        """Return the tracking section of a document; None if the job has no MLflow run."""
        return None
