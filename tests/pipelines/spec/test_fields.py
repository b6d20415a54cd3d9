"""The fields of the document are listed with type, default and description."""

from pipelines.spec.fields import field_groups

GROUPS = {group.title: {field.name: field for field in group.fields} for group in field_groups()}


def test_field_has_type_default_and_description() -> None:
    mode = GROUPS["data"]["data.mix"]
    assert mode.type == "interleave | concat | proportional | temperature"
    assert mode.default == "interleave"
    assert mode.description
    assert mode.help == f"{mode.description} (default: interleave)"
    assert GROUPS["trainer"]["trainer.max_epochs"].help == "(default: 10)"
    assert GROUPS[""]["name"].help == "(required)"


def test_heads_and_label_formats_are_listed_one_by_one() -> None:
    heads = {title.rpartition(" ")[2] for title in GROUPS if title.startswith("model.tasks.NAME, head: ")}
    assert heads >= {"retinanet", "fcos", "multiclass", "multilabel", "embedding"}
    assert "model.tasks.NAME.range_scale" in GROUPS["model.tasks.NAME, head: fcos"]
    assert "model.tasks.NAME.range_scale" not in GROUPS["model.tasks.NAME, head: retinanet"]
    formats = {title.rpartition(" ")[2] for title in GROUPS if title.startswith("data.sources.NAME.labels.0, format: ")}
    assert formats >= {"coco", "voc", "csv", "image_folder"}


def test_optional_section_is_a_field_and_a_group_of_patterns() -> None:
    assert GROUPS["model"]["model.ema"].default == "null"
    assert "model.ema.decay" in GROUPS["model.ema"]
    patterns = {group.title: group.is_pattern for group in field_groups()}
    assert patterns["model.ema"]
    assert not patterns["model.optimizer"]


def test_no_field_is_listed_twice_in_a_group_and_fixed_names_are_unique() -> None:
    fixed = [field.name for group in field_groups() if not group.is_pattern for field in group.fields]
    assert len(fixed) == len(set(fixed))
    for group in field_groups():
        names = [field.name for field in group.fields]
        assert len(names) == len(set(names))
