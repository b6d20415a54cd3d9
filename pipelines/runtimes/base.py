"""The contract of a runtime: it loads the graph of an exported network and computes its outputs. Torch-free.

A runtime is one module in this package and one row in `pipelines.runtimes.rows`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """A loaded graph. Several threads may run it at once."""

    @property
    def input_names(self) -> Sequence[str]:
        """The names of the inputs: `images`, and `sizes_hw` where the graph needs it."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name.

        Args:
            inputs: `images` (B, 3, H, W) uint8, padded to the same size, and `sizes_hw` (B, 2) int64 before padding.
        """


class Runtime(ABC):
    """A library that computes exported networks.

    Attributes:
        name: in documents, folders and reports.
        package: that has to be installed.
        graph_file: name of the file with the graph in the folder of a variant.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    graph_file: ClassVar[str]

    @property
    def is_installed(self) -> bool:
        """Return whether its package can be imported."""
        return find_spec(self.package) is not None

    @abstractmethod
    def load(self, graph: Path, precision: str, threads: int | None = None) -> Session:
        """Return the graph in a file, ready to run on the CPU.

        Args:
            graph: the file.
            precision: that the graph is computed in, see `pipelines.spec.exported_variant.PRECISIONS`.
            threads: number of threads of one run; by default the number of cores that this process may use.
        """
