"""Fields about operations over several images, sizes of batches, and groups of similar aspect ratio."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.spec.data import DataSpec
from pipelines.spec.document_warnings import document_warnings
from pipelines.spec.load import apply_override, validate_document

Document = dict[str, Any]
LAYER = {"format": "coco", "path": "x.json", "tasks": ["a"]}
PK = {"batch_size": 4, "sampler": {"kind": "pk", "task": "a", "p": 2, "k": 2}}


def data_of(sources: Document | None = None, **fields: Any) -> DataSpec:
    given = {name: {"images": ".", "labels": [LAYER]} | of for name, of in (sources or {"s": {}}).items()}
    return DataSpec.model_validate({"root": "x", "sources": given} | fields)


@pytest.mark.parametrize(("op", "is_refused"), [("mosaic", True), ("copy_paste", True), ("hflip", False)])
def test_identities_of_a_pk_sampler_are_not_mixed_with_others(op: str, is_refused: bool) -> None:
    if not is_refused:
        assert data_of({"s": PK}, augment=[{"op": op}]).sources
        return
    with pytest.raises(ValidationError, match=rf"augment: got '{op}'.*pk samplers of \['s'\].*kind: shuffle"):
        data_of({"s": PK, "t": {}}, augment=[{"op": op}])


@pytest.mark.parametrize(
    ("multi_scale", "image_size", "sizes"),
    [
        ([64, 128], 96, [64, 96, 128]),
        ([70, 130], 96, [96, 128]),
        ([64, 64], 96, [64]),
        ([64, 128], [240, 320], [(64, 64), (64, 96), (96, 128)]),
        (None, 96, None),
    ],
)
def test_sizes_of_batches_are_multiples_of_32(multi_scale: Any, image_size: Any, sizes: Any) -> None:
    assert data_of(multi_scale=multi_scale, image_size=image_size).train_image_sizes() == sizes


@pytest.mark.parametrize("multi_scale", [[128, 64], [65, 95], [0, 64]])
def test_range_without_a_multiple_of_32_is_refused(multi_scale: Any) -> None:
    with pytest.raises(ValidationError, match="multi_scale"):
        data_of(multi_scale=multi_scale)


@pytest.mark.parametrize(
    ("close", "max_epochs", "expected"), [(None, 40, 36), (None, 9, 9), (0, 5, 5), (2, 5, 3), (8, 5, 0)]
)
def test_last_epochs_do_not_combine_images(close: int | None, max_epochs: int, expected: int) -> None:
    assert data_of(close_mosaic_epochs=close).num_combining_epochs(max_epochs) == expected


def test_mixed_batches_are_grouped_by_aspect_everywhere_or_nowhere() -> None:
    grouped = {"sampler": {"kind": "shuffle", "group_by_aspect": True}}
    assert data_of({"s": grouped, "t": grouped}, mix="concat").mix == "concat"
    with pytest.raises(ValidationError, match=r"mix: got 'concat'.*the same group_by_aspect"):
        data_of({"s": grouped, "t": {}}, mix="concat")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"augment": [{"op": "mosaic"}, {"op": "copy_paste"}]}, []),
        ({"augment": [{"op": "hflip"}], "close_mosaic_epochs": 99}, []),
        (
            {"augment": [{"op": "mosaic"}, {"op": "mixup"}], "close_mosaic_epochs": 99},
            ["data.close_mosaic_epochs: got 99; with trainer.max_epochs: 2 no epoch has mosaic, mixup"],
        ),
        ({"multi_scale": [96, 160]}, []),
        ({"multi_scale": [32, 96]}, ["data.multi_scale: got [32, 96], but evaluation uses data.image_size: 128"]),
    ],
)
def test_documents_whose_images_are_not_combined_as_expected_give_warnings(
    small: Document, values: Document, expected: list[str]
) -> None:
    document = apply_override(apply_override(small, "trainer.max_epochs", 2), "data.image_size", 128)
    for name, value in values.items():
        document = apply_override(document, f"data.{name}", value)
    warnings = [text for text in document_warnings(validate_document(document)) if text.startswith("data.")]
    assert len(warnings) == len(expected)
    assert all(text.startswith(start) for text, start in zip(warnings, expected, strict=True))


def test_tasks_that_combined_images_are_not_labeled_for_give_warnings(small_document: Document) -> None:
    document = apply_override(small_document, "model.tasks", {"who": {"head": "embedding", "of": "image"}})
    document["model"].pop("select", None)
    (source,) = document["data"]["sources"].values()
    source["labels"] = [{"format": "image_folder", "tasks": ["who"]}]
    document["data"]["augment"] = [{"op": "cutmix"}, {"op": "copy_paste"}]
    warnings = [text for text in document_warnings(validate_document(document)) if text.startswith("data.augment")]
    assert warnings == [
        "data.augment: the images of cutmix are not labeled for who; lower its p, or remove it",
        "data.augment: copy_paste has no effect, because no task has boxes; remove it",
    ]
