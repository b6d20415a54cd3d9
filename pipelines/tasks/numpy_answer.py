"""The answer of a task without torch, for kinds that do not define their own, see `TaskKind.numpy_functions`."""

from collections.abc import Callable
from typing import Any

import numpy as np

NumpyFunction = Callable[..., Any]


def raw_outputs(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs of the graph for the task `name`."""
    return {
        output.removeprefix(f"{name}."): values.tolist()
        for output, values in outputs.items()
        if output.startswith(f"{name}.")
    }
