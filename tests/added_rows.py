"""What the rows of docs/adding.md give without further code; tests/test_adding.py runs this in a copy of the project."""

from typing import Any

import pytest

from heads.catalog import HEADS
from pipelines.spec.job import JobSpec


def schema_with(field: str, value: str) -> dict[str, Any]:
    """Return the properties of the section of the document that this value of a field selects."""
    sections = JobSpec.model_json_schema()["$defs"].values()
    (found,) = [s["properties"] for s in sections if s.get("properties", {}).get(field, {}).get("const") == value]
    return dict(found)


@pytest.mark.parametrize(("head", "setting"), [("cosine", "scale")])
def test_head_is_in_the_catalog_and_its_settings_are_in_the_schema(head: str, setting: str) -> None:
    assert HEADS[head].description
    settings = schema_with("head", head)
    assert settings[setting]["description"]
    assert settings["weight"]["description"]
