"""`data.dataset` names a data set of a service, which resolves it before the document is validated."""

from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved, validate_document


def test_document_without_a_service_needs_root_and_sources(small_document: dict[str, Any]) -> None:
    small_document["data"] = {"dataset": "shapes"}
    with pytest.raises(ConfigError, match=r"data.dataset: got 'shapes', a data set of a service; submit the document"):
        validate_document(small_document)


def test_resolved_document_keeps_the_name(small_document: dict[str, Any]) -> None:
    small_document["data"]["dataset"] = "shapes@0123456789ab"
    assert resolved(validate_document(small_document))["data"]["dataset"] == "shapes@0123456789ab"


@pytest.mark.parametrize("reference", ["", "a b", "shapes@", "shapes@12", "shapes@xyzxyzxyz", "../x@0123456789ab"])
def test_invalid_name_is_refused(reference: str, small_document: dict[str, Any]) -> None:
    small_document["data"]["dataset"] = reference
    with pytest.raises(ConfigError, match=r"data.dataset: got .*; write NAME@VERSION"):
        validate_document(small_document)


def test_json_schema_takes_a_data_set_instead_of_a_folder() -> None:
    schema = JobSpec.model_json_schema()["$defs"]["DataSpec"]
    assert "dataset" in schema["properties"]
    assert schema["else"] == {"required": ["root", "sources"]}
    assert schema["if"]["required"] == ["dataset"]
