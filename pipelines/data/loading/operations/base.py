"""The contract of the operations of `data.augment`.

Each one is a function of its section of the document, a sample, a random generator and the source of further samples;
it returns the changed sample and modifies no argument but the generator. All randomness comes from the generator, whose
state is a function of (seed, epoch, index).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import numpy as np

from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.base import OperationSpec

ApplyOperation = Callable[[Any, PlannedSample, np.random.Generator, SampleSource], PlannedSample]


def implementation_of(operation: OperationSpec) -> ApplyOperation:
    """Return the function that applies an operation."""
    module, name = operation.IMPLEMENTATION.split(":")
    return cast("ApplyOperation", getattr(import_module(module), name))
