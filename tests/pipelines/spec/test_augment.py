"""Forms of `data.augment`: presets, and the page that documents them and all operations."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import TypeAdapter

from pipelines.base.errors import ConfigError
from pipelines.spec.augment import OPERATIONS, Augment, describe_operations, operations_of
from pipelines.spec.augment_presets import PRESETS, PresetName
from pipelines.spec.load import apply_override, resolved, validate_document
from pipelines.spec.operations.base import OperationSpec

PAGE = (Path(__file__).parents[3] / "docs/augmentation.md").read_text("utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)]
FORMS: TypeAdapter[Augment] = TypeAdapter(Augment)


def parsed(augment: Any) -> tuple[OperationSpec, ...]:
    return operations_of(FORMS.validate_python(augment))


@pytest.mark.parametrize("name", get_args(PresetName))
def test_preset_is_replaced_by_its_documented_operations(name: PresetName, small: dict[str, Any]) -> None:
    (documented,) = [block for block in BLOCKS if "strong" in block]
    assert documented.keys() == PRESETS.keys()
    assert parsed(documented[name]) == parsed(name) == PRESETS[name]
    job = validate_document(apply_override(small, "data.augment", name))
    assert FORMS.validate_python(resolved(job)["data"]["augment"]) == PRESETS[name]
    assert validate_document(resolved(job)) == job


def test_examples_of_the_page_are_valid() -> None:
    examples = [block["augment"] for block in BLOCKS if "augment" in block]
    assert len(examples) == 4
    assert all(parsed(example) for example in examples)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_page_lists_the_fields_of_each_operation_with_their_defaults(operation: type[OperationSpec]) -> None:
    fields = {name: field.default for name, field in operation.model_fields.items() if name != "op"}
    op = operation.model_fields["op"].default
    row = next((line for line in PAGE.splitlines() if line.startswith(f"| `{op}` |")), "")
    documented = {}
    for text in re.findall(r"`(\w+: [^`]*)`", row.split("|")[2] if row else ""):
        documented |= yaml.safe_load(text)
    assert operation.model_validate(documented) == operation()
    assert documented.keys() == fields.keys()


def test_operations_are_described_in_their_order() -> None:
    assert describe_operations(()) == "augmentation: none"
    lines = describe_operations(PRESETS["strong"]).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [operation.op for operation in PRESETS["strong"]]


@pytest.mark.parametrize("entry", ["hflip", {"hflip": 0.5}, None])
def test_entry_without_an_operation_is_answered_with_an_example(small: dict[str, Any], entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment\.0: got .*name the operation .*\{op: hflip, p: 0\.5\}"):
        validate_document(apply_override(small, "data.augment", [entry]))
