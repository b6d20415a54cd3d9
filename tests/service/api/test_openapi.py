"""The OpenAPI document is complete, unambiguous and usable by client generators."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from service.api.app import create_app
from service.rest.schemas import Answer, Request
from service.settings import Settings


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(root=tmp_path_factory.mktemp("root"), gpus=0)).openapi()


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_document_is_created_without_a_database(tmp_path: Path) -> None:
    create_app(Settings(root=tmp_path / "nothing", gpus=0)).openapi()
    assert list(tmp_path.iterdir()) == []


def test_operation_ids_are_short_and_unique(openapi: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(openapi)]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+){0,4}", name)] == []


def test_every_operation_has_a_summary_tags_and_a_successful_response(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        assert operation["summary"], name
        assert operation["tags"], name
        assert any(status.startswith("2") for status in operation["responses"]), name


def test_every_parameter_is_described(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["schema"].get("description"), (name, parameter["name"])


def bodies(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield all classes of bodies below a base class of this project."""
    for body in base.__subclasses__():
        yield body
        yield from bodies(body)


@pytest.mark.parametrize("base", [Answer, Request])
def test_every_field_of_a_body_is_described(base: type[BaseModel], openapi: dict[str, Any]) -> None:
    found = [body for body in bodies(base) if body.__module__.startswith("service.rest.")]
    assert found
    for body in found:
        properties = body.model_json_schema()["properties"]
        assert [name for name, field in properties.items() if not field.get("description")] == [], body.__name__


def test_every_error_is_a_problem(openapi: dict[str, Any]) -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    for name, operation in operations(openapi):
        errors = {
            status: response.get("content")
            for status, response in operation["responses"].items()
            if status.startswith(("4", "5")) and (name, status) != ("get /readyz", "503")
        }
        assert {status for status, content in errors.items() if content != problem} <= {"416"}, name
        assert {"400", "500"} <= set(errors), name
        if "{job_id}" in name:
            assert "404" in errors, name
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= set(errors), name
    assert "HTTPValidationError" not in openapi["components"]["schemas"]


def test_every_referenced_schema_exists(openapi: dict[str, Any]) -> None:
    named = set(re.findall(r"#/components/schemas/([\w-]+)", str(openapi)))
    assert named <= set(openapi["components"]["schemas"])
    assert {"JobRequest", "JobView", "DryRun", "RunResult", "ProblemDetails"} <= named
