"""A version of a data set as a job reads it. Torch-free."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UsableDataset:
    """A version that jobs can read.

    Attributes:
        id: of the version.
        reference: NAME@VERSION.
        root: the folder of its files, below one of `data_roots_of_jobs`.
        sources: how the data is read; None for images without labels.
    """

    id: str
    reference: str
    root: str
    sources: dict[str, Any] | None
