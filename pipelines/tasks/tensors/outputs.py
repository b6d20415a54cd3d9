"""Base of the predictions in original pixels: numpy arrays, small when pickled, because ranks send them to rank 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from pipelines.tasks.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor


class TaskOutput(ABC):
    """Prediction of one task for one image, in pixels of the original image.

    Each kind has one subclass, a frozen dataclass of arrays, with conversions from the network's output and to the
    answer of the predict endpoint.
    """

    @abstractmethod
    def is_finite(self) -> bool:
        """Return whether every number is finite."""


class ScoredBoxes(Protocol):
    """An output that other tasks can take boxes from: boxes_xyxy (N, 4) and scores (N,)."""

    @property
    def boxes_xyxy(self) -> FloatArray: ...
    @property
    def scores(self) -> FloatArray: ...


def require_shape(name: str, array: NDArray[Any], shape: Sequence[int | None]) -> None:
    """Raise ValueError where an array has another shape; None stands for any size."""
    if array.ndim != len(shape) or any(want not in (None, got) for got, want in zip(array.shape, shape, strict=True)):
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: got the shape {array.shape}; it must be {wanted}")


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor of any device and precision as a float32 array."""
    return tensor.detach().float().cpu().numpy()
