"""Problems of a document are located by the keys that lead to their values."""

import pytest

from pipelines.base.errors import FieldProblem
from service.jobs.document_paths import document_problems


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("", ""),
        ("model.tasks.a.b.weight", "model tasks a.b weight"),
        ("model.tasks.a.b", "model tasks a.b"),
        ("model.tasks.a/c~.weight", "model tasks a/c~ weight"),
        ("model.backbone.name", "model backbone name"),
        ("data.sources.s.labels.1.tasks", "data sources s labels 1 tasks"),
        ("strange.key", "strange.key"),
        ("annotations/train.json", "data"),
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
