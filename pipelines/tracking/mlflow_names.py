"""Names and texts of parameters, metrics and tags in MLflow. Torch-free."""

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.spec.job import JobSpec

MAX_KEY_LENGTH, MAX_VALUE_LENGTH = 250, 6000
"""MLflow's limits for names and values of parameters."""

COMMIT_TAG = "mlflow.source.git.commit"
"""The tag that MLflow's page shows as the version of the code."""

_NOT_IN_KEYS = re.compile(r"[^\w\-. /]")


def flatten(job: JobSpec) -> dict[str, str]:
    """Return the resolved document as MLflow parameters: `model.optimizer.lr` -> `0.001`.

    A list of plain values is one parameter. Characters that MLflow does not allow in names become `_`. Names and values
    that exceed MLflow's limits are cut and end with `...`.
    """
    return dict(_leaves("", job.model_dump(mode="json")))


def _leaves(path: str, node: Any) -> Iterator[tuple[str, str]]:
    children = dict(enumerate(node)) if _is_nested_list(node) else node
    if isinstance(children, dict) and children:
        for key, child in children.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), child)
    else:
        text = node if isinstance(node, str) else json.dumps(node)
        yield mlflow_key(path), cut(text)


def _is_nested_list(node: Any) -> bool:
    return isinstance(node, list) and any(isinstance(child, dict | list) for child in node)


def mlflow_key(name: str) -> str:
    """Return `name` in the form that MLflow accepts for parameters, metrics and tags.

    Parts between slashes that MLflow takes for folders (none, `.` and `..`) become `_`.
    """
    parts = _NOT_IN_KEYS.sub("_", name).split("/")
    return cut("/".join("_" if part in ("", ".", "..") else part for part in parts), MAX_KEY_LENGTH)


def distinct_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the key of each name; where keys would be equal, they end with a checksum of the name."""
    keys = {name: mlflow_key(name) for name in names}
    counts = Counter(keys.values())
    return {name: key if counts[key] == 1 else _with_checksum(key, name) for name, key in keys.items()}


def _with_checksum(key: str, name: str) -> str:
    checksum = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return f"{cut(key, MAX_KEY_LENGTH - 9)} {checksum:08x}"


def cut(text: str, length: int = MAX_VALUE_LENGTH) -> str:
    """Return `text`; if it is longer than `length`, return its start and `...`."""
    return text if len(text) <= length else text[: length - 3] + "..."
