"""Pointers from problems into the body of a request."""

import pytest

from service.rest.problems import pointer


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ((), ""),
        (("config", "model", "tasks", "a.b", "weight"), "/config/model/tasks/a.b/weight"),
        (("config", "model", "tasks", "a/c~", "weight"), "/config/model/tasks/a~1c~0/weight"),
        (("labels", 1), "/labels/1"),
    ],
)
def test_path_becomes_a_pointer(path: tuple[str | int, ...], wanted: str) -> None:
    assert pointer(path) == wanted
