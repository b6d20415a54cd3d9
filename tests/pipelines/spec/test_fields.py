"""The list of the document's fields, with their types, defaults and descriptions."""

from collections.abc import Iterator
from typing import Any

from pipelines.spec.fields import field_groups
from pipelines.spec.job import JobSpec

GROUPS = {group.title: {field.name: field for field in group.fields} for group in field_groups()}


def test_field_has_type_default_and_description() -> None:
    mix = GROUPS["data"]["data.mix"]
    assert mix.type == "interleave | concat | proportional | temperature"
    assert mix.default == "interleave"
    assert mix.description
    assert mix.help == f"{mix.description} (default: interleave)"
    assert GROUPS["trainer"]["trainer.max_epochs"].help == "(default: 10)"
    assert GROUPS[""]["name"].help == "(required)"


def test_each_head_and_label_format_has_its_own_group() -> None:
    heads = {title.rpartition(" ")[2] for title in GROUPS if title.startswith("model.tasks.NAME, head: ")}
    assert heads >= {"retinanet", "fcos", "multiclass", "multilabel", "embedding"}
    assert "model.tasks.NAME.range_scale" in GROUPS["model.tasks.NAME, head: fcos"]
    assert "model.tasks.NAME.range_scale" not in GROUPS["model.tasks.NAME, head: retinanet"]
    formats = {title.rpartition(" ")[2] for title in GROUPS if title.startswith("data.sources.NAME.labels.0, format: ")}
    assert formats >= {"coco", "voc", "csv", "image_folder"}


def test_optional_section_is_listed_as_a_field_and_as_a_pattern_group() -> None:
    assert GROUPS["model"]["model.ema"].default == "null"
    assert "model.ema.decay" in GROUPS["model.ema"]
    patterns = {group.title: group.is_pattern for group in field_groups()}
    assert patterns["model.ema"]
    assert not patterns["model.optimizer"]


def test_names_are_unique_within_a_group_and_fixed_names_across_groups() -> None:
    fixed = [field.name for group in field_groups() if not group.is_pattern for field in group.fields]
    assert len(fixed) == len(set(fixed))
    for group in field_groups():
        names = [field.name for field in group.fields]
        assert len(names) == len(set(names))


def integers(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every integer of a JSON schema, with its place."""
    if isinstance(node, dict):
        if node.get("type") == "integer":
            yield path, node
        for key, value in node.items():
            yield from integers(value, f"{path}/{key}")
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from integers(value, f"{path}/{position}")


def test_every_whole_number_has_an_upper_bound() -> None:
    """A number without one, as of channels, lets a document ask for more memory than any machine has."""
    checked_elsewhere = (
        "value_range", "JpegSpec/properties/quality", "DesignSpec/properties/strides", "devices/anyOf/2",
        "DesignSpec/properties/deformable", "DesignAttention/properties/stages",
    )  # fmt: skip
    unbounded = [
        path for path, node in integers(JobSpec.model_json_schema()) if not {"maximum", "exclusiveMaximum"} & {*node}
    ]
    assert [path for path in unbounded if not any(known in path for known in checked_elsewhere)] == []
