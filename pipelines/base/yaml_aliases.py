"""Bound on YAML documents whose aliases repeat values. Torch-free."""

import math
from itertools import chain
from typing import Any

import yaml

MAX_CHARACTERS = 4 * 2**20
"""Largest number of characters in the values of a document with its aliases written out; REST accepts 1 MiB."""


class BoundedAliases(yaml.constructor.BaseConstructor):
    """Makes too many repetitions an error: nine lines can stand for a billion values.

    A base class of YAML loaders, before the class that reads mappings.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        """Return the value of a document; raises ConstructorError if it is too large, or contains itself."""
        if _num_characters(node, {}) > MAX_CHARACTERS:
            problem = f"the document with its aliases has more than {MAX_CHARACTERS} characters"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_document(node)


def _num_characters(node: yaml.Node, known: dict[int, float]) -> float:
    """Return the number of characters of a node, each value counted once more; infinite if it contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        if isinstance(node, yaml.ScalarNode):
            size: float = len(node.value)
        else:
            values = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            size = sum(_num_characters(value, known) for value in values)
        known[id(node)] = size + 1
    return known[id(node)]
