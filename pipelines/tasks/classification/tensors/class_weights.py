"""Weights of classes in the loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category, ImageRecord
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.classification.spec import ClassificationSpec
from pipelines.tasks.labels import class_counts


def class_weights(task: TaskSetup[ClassificationSpec], records: Sequence[ImageRecord]) -> Tensor | None:
    """Return the weights (K,) that the document asks for, or None where it asks for none.

    Args:
        task: the task.
        records: the training split.

    Raises:
        ConfigError: the document names a class that the data does not have.
    """
    wanted = task.spec.class_weights
    if wanted == "none":
        return None
    if wanted == "balanced":
        return balanced_class_weights(records, task.name, task.categories)
    assert isinstance(wanted, Mapping)
    names = [category.name for category in task.categories]
    if unknown := sorted(set(wanted) - set(names)):
        field = f"model.tasks.{task.name}.class_weights"
        raise ConfigError(FieldProblem(field, f"got {unknown}; the classes of the data are {names}"))
    return torch.tensor([float(wanted.get(name, 1.0)) for name in names])


def balanced_class_weights(records: Sequence[ImageRecord], task: str, categories: Sequence[Category]) -> Tensor:
    """Return weights (K,) n / (K' * n_k) over the n records that are labeled for a classification task.

    K' counts the classes that occur, so that for one class per image the weights average 1 over the images. A class
    that never occurs has no n_k: its weight is 1, so that its negatives (multilabel) count like any.
    """
    counts = class_counts(records, task)
    num_labeled = sum(task in record.labels for record in records)
    num_present = sum(counts[category.name] > 0 for category in categories)
    return torch.tensor(
        [
            num_labeled / (num_present * counts[category.name]) if counts[category.name] else 1.0
            for category in categories
        ]
    )
