"""YAML mappings with unique keys. Torch-free."""

from collections.abc import Hashable
from typing import Any

import yaml


class RepeatedKey(yaml.constructor.ConstructorError):
    """A mapping has a key more than once; PyYAML would silently keep the last value."""

    def __init__(self, key: str, mark: yaml.Mark) -> None:
        super().__init__(None, None, f"the key {key!r} is repeated", mark)
        self.line = mark.line + 1


class UniqueKeys(yaml.constructor.BaseConstructor):
    """Makes a repeated key an error; a base class of YAML loaders, before the class that reads mappings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            RepeatedKey: a key occurs more than once; keys that are merged with `<<` may repeat others.
        """
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # PyYAML refuses it
            if key in keys:
                raise RepeatedKey(str(key), key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)
