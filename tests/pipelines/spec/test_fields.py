"""The list of the document's fields, with their types, defaults and descriptions."""

from pipelines.spec.fields import field_groups

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
