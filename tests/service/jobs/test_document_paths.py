"""Problems of a document are located in the submission that contains it."""

import pytest

from pipelines.base.errors import FieldProblem
from service.jobs.document_paths import document_problems


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("", "config"),
        ("model.tasks.a.b.weight", "config model tasks a.b weight"),
        ("model.tasks.a.b", "config model tasks a.b"),
        ("model.tasks.a/c~.weight", "config model tasks a/c~ weight"),
        ("model.backbone.name", "config model backbone name"),
        ("data.sources.s.labels.1.tasks", "config data sources s labels 1 tasks"),
        ("strange.key", "config strange.key"),
        ("annotations/train.json", "config data"),
    ],
)
def test_dotted_name_becomes_a_path(field: str, path: str) -> None:
    config = {
        "model": {"tasks": {"a.b": {"weight": 1}, "a": {"c": 1}, "a/c~": {"weight": 1}}},
        "data": {"sources": {"s": {"labels": [{}, {"tasks": []}]}}},
        "strange.key": 1,
    }
    [problem] = document_problems([FieldProblem(field, "is wrong")], config)
    assert problem.path == tuple(path.split())


def test_mistake_in_a_file_is_reported_with_the_file() -> None:
    [problem] = document_problems([FieldProblem("annotations/train.json", "is not JSON")], {"data": {}})
    assert problem.message == "annotations/train.json: is not JSON"
