"""Files and overrides become one document, and a written document is read back unchanged."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.base.errors import ConfigError
from pipelines.spec.load import (
    apply_override,
    assemble,
    load_job,
    merge,
    read_yaml,
    recipe_names,
    resolved,
    validate_document,
    write_yaml,
)

Document = dict[str, Any]

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8) | st.from_regex(
    r"[-+.0-9]{0,3}[eE:_][0-9]{1,3}", fullmatch=True
)
documents = st.dictionaries(
    texts,
    st.recursive(plain | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=6),
    max_size=4,
)


@given(documents)
def test_written_document_is_read_back(document: Document) -> None:
    assert read_yaml(write_yaml(document), "x") == document


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-.5e+2", -50.0), ("2024-01-01", "2024-01-01"), ("'1e-3'", "1e-3"), ("12", 12)],
)
def test_scalars_have_the_expected_types(text: str, value: object) -> None:
    read = read_yaml(text, "x")
    assert (read, type(read)) == (value, type(value))


def test_anchors_and_merge_keys_are_supported() -> None:
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "x")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: {c: 1, c: 2}", r"line 2, column 11: the key 'c' is repeated"),
        ("a: [1\nb: 2", r"line 2, column 2: expected ',' or '\]'"),
        ("{[1]: 2}", "line 1, column 2: found unhashable key"),
        ("a: !!python/object:os.system x", "line 1, column 4: could not determine a constructor"),
        ("a: !!int x", "contains a value that cannot be read"),
        ("[" * 2000, "contains a value that cannot be read"),
        ("\0", "is not valid YAML"),
        ("a: &a {b: *a}", "line 1, column 1: the document with its aliases has more than 4194304 characters"),
        (f"- &x {'9' * 5000}\n- [{'*x, ' * 900}]", "the document with its aliases has more than"),
    ],
)
def test_invalid_yaml_is_reported_with_its_position(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^job\.yaml: .*{expected}"):
        read_yaml(text, "job.yaml")


def test_later_files_update_earlier_ones_by_key_and_overrides_update_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {ema: {decay: 0.9}, layer_decay: 0.5}\nlist: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("model: {layer_decay: 0.7}\nlist: [3]\n")
    document = assemble(
        [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")], [("model.ema", "null"), ("new.name", "[x]")]
    )
    assert document == {"model": {"ema": None, "layer_decay": 0.7}, "list": [3], "new": {"name": ["x"]}}


def test_merge_replaces_all_values_except_mappings() -> None:
    assert merge({"a": {"b": 1}, "c": [1]}, {"a": None, "c": {"d": 2}}) == {"a": None, "c": {"d": 2}}


def test_override_sets_entries_of_lists_and_keeps_its_argument() -> None:
    document = {"sources": [{"path": "a"}, {"path": "b"}]}
    assert apply_override(document, "sources.1.path", "c") == {"sources": [{"path": "a"}, {"path": "c"}]}
    assert document == {"sources": [{"path": "a"}, {"path": "b"}]}
    with pytest.raises(ConfigError, match=r"^--sources\.2\.path: got '2'; the list has the positions 0 to 1"):
        apply_override(document, "sources.2.path", "c")
    with pytest.raises(ConfigError, match=r"^--sources\.first: got 'first'"):
        apply_override(document, "sources.first", "c")


def test_number_in_an_override_matches_an_integer_key() -> None:
    assert apply_override({"unfreeze": {0: "all"}}, "unfreeze.0", "none") == {"unfreeze": {0: "none"}}


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name != "finetune"])
def test_complete_document_of_a_recipe_is_the_same_job(recipe: str) -> None:
    job = load_job([f"recipe:{recipe}"])
    assert validate_document(read_yaml(write_yaml(resolved(job)), "x")) == job
    assert list(job.model.tasks) == list(resolved(job)["model"]["tasks"])


def test_unknown_recipe_is_reported_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"got 'recipe:dem'; the recipes are .*demo"):
        load_job(["recipe:dem"])


def test_file_without_a_document_is_reported(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.yaml", tmp_path / "binary.yaml"
    empty.touch()
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"empty\.yaml: contains NoneType; a job document is a mapping"):
        load_job([str(empty)])
    with pytest.raises(ConfigError, match=r"cannot read .*binary\.yaml"):
        load_job([str(binary)])
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml"):
        load_job([str(tmp_path / "absent.yaml")])
    with pytest.raises(ConfigError, match="--config: missing"):
        load_job([])


@pytest.mark.parametrize(("name", "text"), [("model.optimizer.betas", "[0.9, 1.0]"), ("trainer.devices", "[]")])
def test_values_that_torch_and_lightning_reject_are_invalid(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        load_job(["recipe:demo"], [(name, text)])
